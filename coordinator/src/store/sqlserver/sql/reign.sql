SELECT reign.epoch, reign.holder, reign.writ FROM lull.reign AS reign WHERE reign.reign_id = 1;
