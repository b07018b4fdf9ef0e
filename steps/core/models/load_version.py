"""What a user of a registered version does, as a program: load it, and score its input example.

`python -m steps without-project <this file> <uri>` prints, as JSON, the names of its inputs and how many rows of its
example it has scored, 0 without an example. It imports nothing of the project.
"""

import json
import sys

import mlflow


def main() -> None:
    """Load the version whose URI is the first argument, and print what was found."""
    model = mlflow.pyfunc.load_model(sys.argv[1])
    inputs = model.metadata.get_input_schema()
    example = model.input_example
    rows = len(model.predict(example)) if example is not None else 0
    print(json.dumps({"inputs": inputs.required_input_names() if inputs else [], "example": rows}))


if __name__ == "__main__":
    main()
