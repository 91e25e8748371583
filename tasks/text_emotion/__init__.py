"""Which emotion a text speaks of: classifiers trained on a task's own utterances, in three strengths.

`tfidf` (TF-IDF and logistic regression; trained when scoring needs one), `lstm` (the recipe of ArtEmis) and `encoder`
(any Hugging Face text encoder, fine-tuned). Trained on the train split only.
"""
