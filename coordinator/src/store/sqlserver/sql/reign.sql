SELECT reign.epoch, reign.holder, reign.writ, reign.lease_end_us FROM lull.reign AS reign WHERE reign.reign_id = 1;
