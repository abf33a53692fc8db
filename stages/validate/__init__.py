"""What every artifact has to be, checked by Great Expectations, and the pages that say so. Nothing else imports it."""
