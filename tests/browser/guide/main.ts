// The frontend around the guide's services: signs in, loads tasks, joins the channel, posts a transaction.
import { apiClient } from "./apiService";
import { connectPhoenixSocket, joinTransactionChannel } from "./phoenixService";
import { loadTasks } from "./taskService";

Object.assign(globalThis, {
  getAuthToken: () => localStorage.getItem("token"),
  guide: { apiClient, connectPhoenixSocket, joinTransactionChannel, loadTasks },
});
