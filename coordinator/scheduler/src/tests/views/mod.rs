mod explained;
