package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// stage is the beginning of a line of a program or of a block that declares a stage.
var stage = regexp.MustCompile(`^\{Point: [^,]+,`)

// tutorial follows docs/first-flow.md.
type tutorial struct {
	*testing.T
	folder  string // for the user's files
	redis   string
	program string // the source so far
	command string // the path of the program, built
	output  string // of the last commands
}

// edit makes the change to the program that a Go block of the page asks for, and builds it.
func (u *tutorial) edit(block string) {
	u.Helper()
	switch {
	case strings.HasPrefix(block, "package main\n"):
		u.program = block
	case strings.HasPrefix(block, "func "):
		u.program += "\n" + block
	case stage.MatchString(block):
		line := regexp.MustCompile(`(?m)^\t*` + regexp.QuoteMeta(stage.FindString(block)) + `.*\n`)
		if n := len(line.FindAllString(u.program, -1)); n != 1 {
			u.Fatalf("the program has %d stages that these lines could replace:\n%s", n, block)
		}
		u.program = line.ReplaceAllLiteralString(u.program, block)
	default:
		u.Fatalf("what is this block for?\n%s", block)
	}
	here, err := filepath.Abs("main.go")
	if err != nil {
		u.Fatal(err)
	}
	dir := u.TempDir()
	source, overlay, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "checkout")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: source}})
	if err != nil {
		u.Fatal(err)
	}
	for file, content := range map[string][]byte{source: []byte(u.program), overlay: replace} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			u.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(u.Context(), "go", "build", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		u.Fatalf("%v: %s", err, out)
	}
	u.command = binary
}

// run runs the commands of a block in the user's folder.
func (u *tutorial) run(block string) {
	u.Helper()
	script := strings.ReplaceAll(strings.ReplaceAll(block, "redis://127.0.0.1:6399", u.redis), "go run .", u.command)
	cmd := exec.CommandContext(u.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = u.folder, append(os.Environ(), "REDIS_URL="+u.redis)
	out, err := cmd.Output()
	u.output = string(out)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		u.output += exit.String() + "\n" // as "go run" prints it
	} else if err != nil {
		u.Fatalf("%s: %v", block, err)
	}
}

// TestFirstFlow does what docs/first-flow.md says: it builds the program block by block, runs each
// command, and compares what is printed. In the end the program is the one of this folder.
func TestFirstFlow(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/first-flow.md")
	if err != nil {
		t.Fatal(err)
	}
	server := miniredis.RunT(t)
	server.ClockTTL(true) // so that the lease of the killed process ends
	u := &tutorial{T: t, folder: t.TempDir(), redis: "redis://" + server.Addr()}
	ran := 0
	for _, m := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```\n").FindAllStringSubmatch(string(page), -1) {
		switch language, block := m[1], m[2]; language {
		case "go":
			u.edit(block)
		case "sh":
			u.run(block)
		case "text":
			ran++
			if u.output != block {
				t.Errorf("the page says\n%s\nand the program\n%s", block, u.output)
			}
		}
	}
	if ran < 5 {
		t.Errorf("%d commands were compared", ran)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if words := strings.Fields(u.program); !strings.HasSuffix(strings.Join(strings.Fields(string(program)), " "), strings.Join(words, " ")) {
		t.Errorf("the page ends with another program than main.go:\n%s", u.program)
	}
}
