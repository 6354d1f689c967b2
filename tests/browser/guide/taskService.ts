// Update imports
import { isPostgreSQLInitialized, getPostgreSQLClient } from './postgresqlService';
import { apiClient } from './apiService';

// Use Phoenix API when available
const USE_PHOENIX_TASKS = process.env.USE_PHOENIX_TASKS === 'true';

export const loadTasks = async (teamMember: string): Promise<Task[]> => {
  if (USE_PHOENIX_TASKS) {
    // Use Phoenix API
    const data = await apiClient.get(`/tasks?team_member=${teamMember}`);
    return data.tasks;
  } else {
    // Fallback to existing PostgreSQL service
    // ... existing code ...
  }
};
