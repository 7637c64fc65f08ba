package model

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// model has the core, in modelFile, what it includes, and the model with a second store.
//
//go:embed *.pml
var model embed.FS

const (
	modelFile = "protocol.pml"
	sqlFile   = "sql.pml"
)

// maxDepth is the longest execution that pan follows, in steps. The longest there are have some
// hundred; pan says so when it is too small.
const maxDepth = 100_000

// checkTools returns an error that says what to install when a program is missing.
func checkTools() error {
	var errs []error
	for _, name := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, fmt.Errorf("%w; on Debian: apt-get install spin gcc libc6-dev", err))
		}
	}
	return errors.Join(errs...)
}

// searcher runs Spin in a directory of its own.
type searcher struct {
	dir       string
	megabytes int // that pan may use
}

// unpack writes the model into the directory.
func (s searcher) unpack() error { return os.CopyFS(s.dir, model) }

// search makes one run. The trail of the last one with an error stays in the directory.
func (s searcher) search(ctx context.Context, r run) (result, error) {
	// A trail of the run before must not be taken for this one's.
	if err := os.RemoveAll(filepath.Join(s.dir, r.file()+".trail")); err != nil {
		return result{}, err
	}
	if _, err := s.command(ctx, "spin", append(r.defines(), "-a", r.file())...); err != nil {
		return result{}, err
	}
	if _, err := s.command(ctx, "gcc", s.compileArgs(r)...); err != nil {
		return result{}, err
	}
	out, err := s.command(ctx, "./pan", "-m"+strconv.Itoa(maxDepth))
	if err != nil {
		return result{}, err
	}
	return parse(out)
}

// compileArgs returns gcc's arguments. Variants are searched breadth first: their first error is a
// shortest one.
func (s searcher) compileArgs(r run) []string {
	args := []string{"-w", "-DSAFETY", "-DMEMLIM=" + strconv.Itoa(s.megabytes), "-o", "pan", "pan.c"}
	if r.expect != holds {
		return append(args, "-O1", "-DBFS") // compiling takes longer than the search
	}
	args = append(args, "-O2")
	if r.unreduced {
		args = append(args, "-DNOREDUCE")
	}
	return append(args, "-DCOLLAPSE")
}

// replay returns Spin's account of the error that the last search has found: the steps that the
// model prints, or every statement with the variables at the end.
func (s searcher) replay(ctx context.Context, r run, statements bool) (string, error) {
	args := append(r.defines(), "-t")
	if statements {
		args = append(args, "-p")
	}
	return s.command(ctx, "spin", append(args, r.file())...)
}

// command runs a program in the directory and returns what it printed.
func (s searcher) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
