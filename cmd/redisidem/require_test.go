package main

import (
	"os"
	"os/exec"
	"testing"
)

// programsVariable makes a missing program of the system fail the test that needs it.
const programsVariable = "REDISIDEM_REQUIRE_PROGRAMS"

// requireProgram returns the path of a program, and skips the test if it is missing.
func requireProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(programsVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
