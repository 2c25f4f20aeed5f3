SELECT network.network, network.authority FROM lull.network AS network WHERE network.network_id = 1;
