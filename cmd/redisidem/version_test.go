package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionNamesTheBuild(t *testing.T) {
	t.Parallel()
	platform := fmt.Sprintf("platform   %s/%s\n", runtime.GOOS, runtime.GOARCH)
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.time", Value: "2026-11-29T12:00:00Z"}}
	for name, test := range map[string]struct {
		release string
		info    debug.BuildInfo
		want    string
	}{
		"clean commit": {
			info: debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.1.0"}, Settings: append(commit, debug.BuildSetting{Key: "vcs.modified", Value: "false"})},
			want: "redisidem  v0.1.0\ncommit     0123abcd\ntime       2026-11-29T12:00:00Z\nfiles      clean\ngo         1.26.0\n",
		},
		"changed files": {
			info: debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "(devel)"}, Settings: append(commit, debug.BuildSetting{Key: "vcs.modified", Value: "true"})},
			want: "redisidem  (devel)\ncommit     0123abcd\ntime       2026-11-29T12:00:00Z\nfiles      dirty\ngo         1.26.0\n",
		},
		"release": {
			release: "v0.1.0", info: debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.0.0-2026"}},
			want: "redisidem  v0.1.0\ncommit     unknown\ntime       unknown\nfiles      unknown\ngo         1.26.0\n",
		},
		"nothing": {
			info: debug.BuildInfo{GoVersion: "go1.26.0"},
			want: "redisidem  unknown\ncommit     unknown\ntime       unknown\nfiles      unknown\ngo         1.26.0\n",
		},
	} {
		var got strings.Builder
		if err := writeVersion(&got, test.release, &test.info); err != nil || got.String() != test.want+platform {
			t.Errorf("%s: %v, and it prints\n%s", name, err, got.String())
		}
	}
}
