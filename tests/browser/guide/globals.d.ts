// What the frontend around these files declares.
interface Task {
  id: string;
  title: string;
  team_member: string;
}
declare function getAuthToken(): string;
