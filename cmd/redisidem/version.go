package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
)

// release is the version that the linker sets with -X main.release in the programs of a release.
// Programs that go install has built know their version from their module.
var release string

// unknown is what a build does not know of itself.
const unknown = "unknown"

// versionCommand prints the version.
type versionCommand struct{}

// Run prints the version of the program.
func (versionCommand) Run() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return writeVersion(os.Stdout, release, info)
}

// writeVersion prints the version of a build: of the program, its commit with the time, whether its
// files differed from the commit, Go and the platform.
func writeVersion(to io.Writer, release string, info *debug.BuildInfo) error {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	state := unknown
	switch settings["vcs.modified"] {
	case "true":
		state = "dirty"
	case "false":
		state = "clean"
	}
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "redisidem\t%s\n", cmp.Or(release, info.Main.Version, unknown))
	fmt.Fprintf(w, "commit\t%s\n", cmp.Or(settings["vcs.revision"], unknown))
	fmt.Fprintf(w, "time\t%s\n", cmp.Or(settings["vcs.time"], unknown))
	fmt.Fprintf(w, "files\t%s\n", state)
	fmt.Fprintf(w, "go\t%s\n", strings.TrimPrefix(info.GoVersion, "go"))
	fmt.Fprintf(w, "platform\t%s/%s\n", runtime.GOOS, runtime.GOARCH)
	return w.Flush()
}
