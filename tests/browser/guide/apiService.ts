// API Configuration
const NETLIFY_API_URL = '/.netlify/functions';
const PHOENIX_API_URL = process.env.PHOENIX_API_URL || 'http://localhost:4000/api/v1';

// Feature flag for gradual migration
const USE_PHOENIX_API = process.env.USE_PHOENIX_API === 'true';

export const apiClient = {
  async get(endpoint: string) {
    const baseUrl = USE_PHOENIX_API ? PHOENIX_API_URL : NETLIFY_API_URL;
    const response = await fetch(`${baseUrl}${endpoint}`, {
      headers: {
        'Authorization': `Bearer ${getAuthToken()}`,
        'Content-Type': 'application/json'
      }
    });
    return response.json();
  },

  async post(endpoint: string, data: any) {
    const baseUrl = USE_PHOENIX_API ? PHOENIX_API_URL : NETLIFY_API_URL;
    const response = await fetch(`${baseUrl}${endpoint}`, {
      method: 'POST',
      headers: {
        'Authorization': `Bearer ${getAuthToken()}`,
        'Content-Type': 'application/json'
      },
      body: JSON.stringify(data)
    });
    return response.json();
  }
};
