import { Socket } from 'phoenix';

let socket: Socket | null = null;

export const connectPhoenixSocket = () => {
  const socketUrl = process.env.PHOENIX_SOCKET_URL || 'ws://localhost:4000/socket';
  
  socket = new Socket(socketUrl, {
    params: { token: getAuthToken() }
  });

  socket.connect();

  socket.onError(() => {
    console.error('Phoenix socket connection error');
  });

  return socket;
};

export const joinTransactionChannel = (userId: string, callback: (payload: any) => void) => {
  if (!socket) {
    socket = connectPhoenixSocket();
  }

  const channel = socket.channel(`transaction:${userId}`, {});

  channel.join()
    .receive('ok', () => {
      console.log('Joined transaction channel');
    })
    .receive('error', (error) => {
      console.error('Failed to join channel:', error);
    });

  channel.on('new_transaction', callback);

  return channel;
};
