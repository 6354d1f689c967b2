export const isPostgreSQLInitialized = () => false;
export const getPostgreSQLClient = () => null;
