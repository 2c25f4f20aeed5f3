SELECT coordinators.peer, coordinators.name, coordinators.machine, coordinators.network, coordinators.http,
    coordinators.addresses, coordinators.leads_us, coordinators.seen_us
FROM lull.coordinators AS coordinators
ORDER BY coordinators.peer;
