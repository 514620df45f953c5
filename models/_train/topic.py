"""topic: which area of machine learning a passage is about (string input)."""

import re
import zlib
from collections import Counter

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, GridSearchCV

import text
from common import Graph, run, save, session, write_card, write_examples

# Label -> the scikit-learn packages whose documentation teaches it.
TOPICS = {
    "clustering": ["cluster", "mixture"],
    "datasets": ["datasets"],
    "decomposition": ["decomposition", "manifold", "cross_decomposition"],
    "linear models": ["linear_model", "svm"],
    "metrics": ["metrics"],
    "model selection": ["model_selection"],
    "preprocessing": ["preprocessing", "impute", "feature_extraction", "feature_selection"],
    "trees": ["ensemble", "tree"],
}
LABELS = list(TOPICS)

# The graph must not need a locale, so it has no StringNormalizer: StringSplit
# cuts at blanks and every spelling of a word (these, in lower and capital
# case) is listed in the vocabulary, all counted in the word's one column.
FRAMES = ["{}", "{}.", "{},", "{}:", "{};", "{}?", "{}!", "{})", "({}", "({})", '"{}"']


def spellings(word):
    return [frame.format(form) for form in (word, word.capitalize()) for frame in FRAMES]


def bare(token):
    """The word of which `token` is a listed spelling, or None."""
    match = re.fullmatch(r"(?:\(|\")?([A-Za-z][A-Za-z_-]*)(?:[.,:;?!)\"])?", token)
    if not match:
        return None
    word = match[1].lower()
    return word if token in spellings(word) else None


def corpus():
    """Sentences with label and group; a group is one class or function."""
    seen = {}
    for label, packages in enumerate(TOPICS.values()):
        for package in packages:
            for path in text.files(".py", text.ROOT / package):
                for name, doc in text.docstrings(path):
                    group = f"{path.relative_to(text.ROOT).as_posix()}:{name}"
                    for passage in text.passages(doc):
                        if text.words(passage) < 12:
                            continue  # too short to have a topic
                        key = re.sub(r"\W+", " ", passage.lower())
                        seen.setdefault(key, []).append((passage, label, group))
    # A passage repeated within a topic counts once; one found under two
    # topics ("fit the model to data") tells nothing and is dropped.
    kept = [found[0] for found in seen.values() if len({label for _, label, _ in found}) == 1]
    return [np.array(column) for column in zip(*kept)]


def counts(passages, column):
    rows, columns = [], []
    for row, passage in enumerate(passages):
        for token in passage.split():
            if (word := bare(token)) in column:
                rows.append(row)
                columns.append(column[word])
    shape = (len(passages), len(column))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)


def normalised(matrix, idf):
    matrix = matrix.multiply(idf).tocsr()
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    return sparse.diags(1 / np.maximum(norms, 1e-6)) @ matrix


def to_onnx(words, idf, weights, bias):
    pool, columns = [], []
    for column, word in enumerate(words):
        for spelling in spellings(word):
            pool.append(spelling)
            columns.append(column)
    graph = Graph("topic")
    x = graph.input("text_input", "BYTES", ["batch", 1])
    # One word that is in no vocabulary, so that no row is ever empty: the
    # string operators are not all happy with a tensor without elements.
    graph.const("tail", np.array([" _"], object))
    graph.const("axes", np.array([1], np.int64))
    graph.const("flat", np.array([-1], np.int64))
    graph.const("tiny", np.float32(1e-6))
    graph.const("idf", idf)
    graph.const("weights", weights)
    graph.const("bias", bias)
    graph.const("labels", np.array(LABELS, object))
    x = graph.op("StringConcat", graph.op("Reshape", x, "flat"), "tail")
    # With no delimiter, any run of spaces separates. Rows are padded with empty
    # strings, which are in no vocabulary either.
    x = graph.op("StringSplit", x, extra_outputs=["token_counts"])
    x = graph.op(
        "TfIdfVectorizer", x, mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
        ngram_counts=[0], ngram_indexes=columns, pool_strings=pool,
    )  # fmt: skip
    x = graph.op("Mul", x, "idf")
    norm = graph.op("ReduceL2", x, "axes", keepdims=1)
    x = graph.op("Div", x, graph.op("Max", norm, "tiny"))
    logits = graph.op("Gemm", x, "weights", "bias")
    best = graph.op("ArgMax", logits, axis=1, keepdims=1)
    graph.op("Gather", "labels", best, out=graph.output("label", "BYTES", ["batch", 1]), axis=0)
    graph.op("Softmax", logits, out=graph.output("probabilities", "FP32", ["batch", len(LABELS)]), axis=1)
    # StringSplit and StringConcat came with opset 20, which needs IR 9.
    return graph.model("Machine-learning topic of an English passage.", opset=20, ir_version=9)


def main():
    passages, labels, groups = corpus()
    # By class or function, not by passage: the passages of one docstring
    # resemble each other. crc32 because hash() differs between runs.
    held = np.array([zlib.crc32(group.encode()) % 5 == 0 for group in groups])
    train, test = passages[~held], passages[held]
    train_y, test_y = labels[~held], labels[held]

    frequency = Counter(w for s in train for w in {bare(t) for t in s.split()} if w and len(w) > 1)
    words = sorted(w for w, n in frequency.items() if n >= 3)
    column = {word: i for i, word in enumerate(words)}
    idf = np.array([1 + np.log((1 + len(train)) / (1 + frequency[w])) for w in words], np.float32)
    features = normalised(counts(train, column), idf)
    search = GridSearchCV(
        LogisticRegression(class_weight="balanced", max_iter=1000),
        {"C": [1.0, 3.0, 10.0]},
        cv=GroupKFold(3),
        scoring="f1_macro",
    ).fit(features, train_y, groups=groups[~held])
    fitted = search.best_estimator_

    model = to_onnx(words, idf, fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32))
    path = save(model, "topic")
    got = run(session(path), {"text_input": test.astype(object)[:, None]})
    expected = fitted.predict_proba(normalised(counts(test, column), idf))
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-4)
    guess = got["probabilities"].argmax(1)
    assert (got["label"][:, 0] == np.array(LABELS)[guess]).all()
    accuracy, f1 = np.mean(guess == test_y), f1_score(test_y, guess, average="macro")
    largest = np.mean(test_y == np.bincount(train_y).argmax())
    print(f"topic: held-out accuracy {accuracy:.3f}, macro F1 {f1:.3f}, C {search.best_params_['C']}, {len(words)} words")

    def column_of(*texts):
        return {"text_input": np.array(texts, object)[:, None]}

    write_examples(
        path,
        {
            "one sentence": column_of("Random forests average many decision trees."),
            "three sentences": column_of(
                "K-means assigns every sample to the nearest centroid.",
                "Split the data into cross-validation folds and search the parameter grid.",
                "The ROC curve plots true positive rate against false positive rate.",
            ),
            "empty, blank, unknown and not ASCII": column_of("", "   ", "xyzzy plugh", "naïve ☃\n\tensembles"),
        },
    )
    per_label = "\n".join(
        f"| {name} | {np.sum(train_y == i)} | {np.sum(test_y == i)} | {np.mean(guess[test_y == i] == i):.2f} |"
        for i, name in enumerate(LABELS)
    )
    write_card(
        "topic",
        f"""
# topic

**Task.** Say which area of machine learning a short English passage is about.
The input is the text itself: splitting into words happens inside the graph.

**Data and licence.** Paragraphs of 12 words or more in the docstrings shipped
inside scikit-learn 1.9.1 (BSD-3-Clause), labelled by the package they stand in.
Repeated ones count once; those found under two labels are dropped. Split by
class or function, so that one docstring is never on both sides:
{len(train)} training and {len(test)} held-out passages.

**Training.** Word counts times inverse document frequency, unit length, then
balanced multinomial logistic regression (C = {search.best_params_["C"]}, by 3-fold cross-validation
on the training part). {len(words)} words. Script: `models/_train/topic.py`.

**Metrics.** Held-out accuracy {accuracy:.3f}, macro F1 {f1:.3f} (always guessing the largest
class: {largest:.3f}). Recall by label:

| label | training passages | held-out passages | held-out recall |
|---|---|---|---|
{per_label}

**Input.** `text_input` BYTES (UTF-8) `[-1, 1]`, one passage a row. Any length;
empty and unknown text is fine.

**Outputs.** `label` BYTES `[-1, 1]`, the best label; `probabilities` FP32
`[-1, {len(LABELS)}]` in the order of the table.

**Limits.** English about machine learning; anything else also gets one of the
labels. Words are cut at spaces only, not at tabs or line ends; plain,
capitalised, and lightly punctuated spellings (`word.`, `(word)`) are known,
others (`WORD`, `word...`) are not. Text without a known word gets the model's
prior, about even. Reference documentation is often generic (the meaning of
`random_state`), which bounds the accuracy; single sentences are harder than
paragraphs.
""",
    )


if __name__ == "__main__":
    main()
