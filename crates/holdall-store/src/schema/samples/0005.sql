UPDATE job SET inputs_determined = 0 WHERE id = 1;
