package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompletionFollowsTheCommandLine asks for the words that can follow, as shells do.
func TestCompletionFollowsTheCommandLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"redisidem ke":                  "keys",
		"redisidem keys re":             "requeue resolve",
		"redisidem dead requeue --fl":   "--flow",
		"redisidem keys list --state a": "abandoned",
		"redisidem keys list --output ": "json table",
		"redisidem completion z":        "zsh",
		"redisidem keys show --no-such": "",
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this very binary
		cmd.Env = append(os.Environ(), program+"=1", "COMP_LINE="+line)
		out, err := cmd.CombinedOutput()
		words := strings.Fields(string(out))
		slices.Sort(words)
		if got := strings.Join(words, " "); err != nil || got != want {
			t.Errorf("%q is followed by %q, want %q: %v", line, got, want, err)
		}
	}
}

// TestCompletionInBash sources the script in bash, and completes a word with what it has installed.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash := requireProgram(t, "bash")
	folder := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(folder, "redisidem")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bash, "-c", `
		source <(redisidem completion bash)
		eval "words=($(complete -p redisidem))"
		COMP_LINE="redisidem scope pu" COMP_POINT=18 "${words[-2]}" redisidem pu scope`)
	cmd.Env = append(os.Environ(), program+"=1", "PATH="+folder+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "purge\n" {
		t.Errorf("bash completes with %q: %v", out, err)
	}
}

// TestCompletionInZsh installs the script as packages do, in a folder of zsh's functions, and
// sources it as the help says. Either way zsh finds what completes the program, and gets the words.
func TestCompletionInZsh(t *testing.T) {
	t.Parallel()
	zsh := requireProgram(t, "zsh")
	folder := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(folder, "redisidem")); err != nil {
		t.Fatal(err)
	}
	for how, begin := range map[string]string{
		"installed":                       `redisidem completion zsh >$PWD/_redisidem; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D`,
		"sourced":                         `autoload -Uz compinit; compinit -u -D; source <(redisidem completion zsh)`,
		"sourced where nothing is set up": `source <(redisidem completion zsh)`,
	} {
		cmd := exec.CommandContext(t.Context(), zsh, "-f", "-c", begin+`
			print -r -- $_comps[redisidem]
			compadd() { print -r -- "$@" }
			_files() { print files }
			words=(redisidem scope pu) CURRENT=3 PREFIX=pu; $_comps[redisidem]
			words=(redisidem keys list --state '') CURRENT=5 PREFIX=; $_comps[redisidem] | grep -o abandoned
			words=(redisidem keys show --no-such) CURRENT=4 PREFIX=--no-such; $_comps[redisidem]`)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), program+"=1", "PATH="+folder+":"+os.Getenv("PATH"), "ZDOTDIR="+cmd.Dir, "HOME="+cmd.Dir)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "_redisidem\n-- purge\nabandoned\nfiles\n" {
			t.Errorf("%s, zsh completes with %q: %v", how, out, err)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]string{
		"bash": "complete -o default -C redisidem redisidem\n", "zsh": "#compdef redisidem\n", "fish": "function __complete_redisidem\n",
		"tcsh": `must be one of "bash","zsh","fish" but got "tcsh"`,
	} {
		if got := command(t, "", "", "completion", shell); !strings.Contains(got, want) {
			t.Errorf("for %s it prints\n%s", shell, got)
		}
	}
}
