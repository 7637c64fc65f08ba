package result

import (
	"encoding/json"
	"fmt"
	"os"
)

// Schema is the version of the format that this program writes and reads.
const Schema = 2

// Write stores a run in a file.
func Write(path string, r *Run) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Read reads a run from a file.
func Read(path string) (*Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Run
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%s has the schema %d, and this program knows %d", path, r.Schema, Schema)
	}
	return &r, nil
}
