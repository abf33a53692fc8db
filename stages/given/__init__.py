"""Features computed elsewhere: files of embeddings, of any modality, as the features of a dataset."""
