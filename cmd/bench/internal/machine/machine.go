// Package machine describes where a benchmark runs.
package machine

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// Describe returns the known facts about this machine, with the given server and topology.
func Describe(server, topology string) result.Machine {
	return result.Machine{
		OS: runtime.GOOS + "/" + runtime.GOARCH, CPU: processor(), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Server: server, Topology: topology, Version: version(), LoadBefore: Load(),
	}
}

// Load returns the number of processes that ran or were ready to run, on average over the last
// minute, or 0 if the system does not count them.
func Load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// processor returns the name of the processor, or "unknown".
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// version returns the revision that this program was built from. "go run" does not record it, so
// git is asked about the present folder then.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if revision == "" {
		revision, dirty = ofGit()
	}
	switch {
	case revision == "":
		return info.Main.Version
	case dirty:
		return revision[:min(12, len(revision))] + " with changes"
	}
	return revision[:min(12, len(revision))]
}

// ofGit returns the commit of the working tree around the present folder and whether the tree has
// changes, or no commit if git does not know one.
func ofGit() (revision string, dirty bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "", false
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	return strings.TrimSpace(string(head)), err != nil || len(changes) > 0
}
