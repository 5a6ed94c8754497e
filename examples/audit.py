"""A question about every picture, and those whose answer is yes: python audit.py INPUT OUTPUT MODEL QUESTION [ANSWERS]

ANSWERS is a column of the input with right answers, yes or no: with it a report says how good the model is at the question.
"""

import sys

import pyarrow.parquet as pq

import clipmill

pictures, output, model, question, *answers = sys.argv[1:]
made = clipmill.ask(pictures, f"{output}/answers", model=model, question=question, choices="yes,no")
rows = pq.ParquetDataset(f"{output}/answers/texts").read().to_pylist()
print(f"{made.counts.answered:,} pictures asked, {sum(row['text'] == 'yes' for row in rows):,} say yes")
for row in rows:
    if row["text"] == "yes":
        print(row["id"])
for column in answers:
    report = clipmill.evaluate_texts(f"{output}/answers", f"{output}/report", answer_column=column)
    print(f"accuracy {report.figure('answers.yes_no_accuracy').value:.3f}")
