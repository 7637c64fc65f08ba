// Package nodetest lets a test use a stock JavaScript client, in a process of its own. It installs
// the client's packages from npm, in the versions of its package-lock.json.
package nodetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Variable is the environment variable that, set to 1, fails tests that would be skipped for lack
// of Node.js, npm or a package.
const Variable = "REDISIDEM_REQUIRE_NODE"

// patience is how long a client may run, and how long npm may take to install it.
const patience = 5 * time.Minute

// Client is a process that runs client.mjs of a folder: it reads one call in JSON from each line,
// and writes each result on a line. It is not safe for concurrent use: a test with concurrent calls
// starts several.
type Client struct {
	stdin   io.WriteCloser
	answers *bufio.Scanner
	stderr  bytes.Buffer
}

// Start starts the client in that folder with those arguments, and ends it with the test. If the
// client cannot be installed, the test is skipped, or fails if [Variable] is set.
func Start(t testing.TB, folder string, args ...string) *Client {
	t.Helper()
	if err := install(folder); err != nil {
		if os.Getenv(Variable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := &Client{}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	node := exec.CommandContext(ctx, "node", append([]string{"client.mjs"}, args...)...) //nolint:gosec // a script of the test's own
	node.Dir, node.Stderr = folder, &c.stderr
	var err error
	if c.stdin, err = node.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.answers = bufio.NewScanner(stdout)
	c.answers.Buffer(nil, 1<<20)
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.stdin.Close() // it ends with its input
		if err := node.Wait(); err != nil {
			t.Errorf("node: %v: %s", err, &c.stderr)
		}
	})
	return c
}

// Call makes a call and reads its result.
func (c *Client) Call(call, answer any) error {
	line, err := json.Marshal(call)
	if err == nil {
		_, err = c.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		return err
	}
	if !c.answers.Scan() {
		return fmt.Errorf("nodetest: no answer: %w: %s", errors.Join(c.answers.Err(), io.ErrUnexpectedEOF), &c.stderr)
	}
	return json.Unmarshal(c.answers.Bytes(), answer)
}

// installed has, for each folder, a function that installs the packages of its package-lock.json
// once.
var installed sync.Map

func install(folder string) error {
	once, _ := installed.LoadOrStore(folder, sync.OnceValue(func() error { return npm(folder) }))
	return once.(func() error)() //nolint:forcetypeassert // nothing else is stored
}

// npm installs the packages of a folder unless they are installed.
func npm(folder string) error {
	const modules, stamp = "node_modules", "node_modules/.installed"
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("nodetest: %w", err)
		}
	}
	wanted, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return err
	}
	if there, err := os.ReadFile(filepath.Join(folder, stamp)); err == nil && bytes.Equal(there, wanted) {
		return nil
	}
	// It installs them beside their place and renames the folder, because two test processes may do
	// this at once.
	work, err := os.MkdirTemp(folder, modules+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // leftovers do no harm
	for _, file := range []string{"package.json", "package-lock.json", ".npmrc"} {
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(work, file), text, 0o600) //nolint:gosec // a folder of the test's own
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ci := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	ci.Dir = work
	if out, err := ci.CombinedOutput(); err != nil {
		return fmt.Errorf("nodetest: npm ci in %s: %w: %s", folder, err, out)
	}
	if err := os.WriteFile(filepath.Join(work, stamp), wanted, 0o600); err != nil { //nolint:gosec // as above
		return err
	}
	if err := os.RemoveAll(filepath.Join(folder, modules)); err != nil {
		return err
	}
	err = os.Rename(filepath.Join(work, modules), filepath.Join(folder, modules))
	if there, failed := os.ReadFile(filepath.Join(folder, stamp)); failed == nil && bytes.Equal(there, wanted) {
		return nil // another process may have been faster
	}
	return err
}
