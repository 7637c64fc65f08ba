package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/alicebob/miniredis/v2/server"
)

// openTerminal returns both ends of a terminal.
func openTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there is no terminal: %v", err)
	}
	var locked, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 { //nolint:gosec // ioctl has no other form
			t.Fatal(errno)
		}
	}
	screen, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = keyboard.Close(), screen.Close() })
	return keyboard, screen
}

// TestSlowCommandsShowThatTheyGoOn has a server that takes its time for each command.
func TestSlowCommandsShowThatTheyGoOn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.Server().SetPreHook(func(*server.Peer, string, ...string) bool {
		time.Sleep(50 * time.Millisecond)
		return false
	})
	for args, want := range map[string]struct{ progress, end string }{
		"stats": {"counting keys, ", ""}, "flows list": {"reading all records, ", ""},
		"scope purge --dry-run finished":             {"counting keys, ", ""},
		"dead delete --reason=r --scope=no-such-one": {"counting dead letters, ", "0 dead letters deleted\r\n"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			keyboard, screen := openTerminal(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], append(strings.Fields(args), "--timeout=1m")...) //nolint:gosec // this very binary
			cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+s.server.Addr(), "REDISIDEM_ACTOR=ann")
			cmd.Stderr = screen
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			_ = screen.Close()
			text, _ := io.ReadAll(keyboard) // it ends with an error, since the terminal is gone
			if got := string(text); !strings.Contains(got, want.progress) || !strings.HasSuffix(got, "\r\x1b[K"+want.end) {
				t.Errorf("the terminal has %q, want %q, and %q in the end", got, want.progress, want.end)
			}
		})
	}
}

// TestTablesHaveColoursOnATerminalOnly prints a table on a terminal, with and without NO_COLOR, and
// elsewhere.
func TestTablesHaveColoursOnATerminalOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	plain, _, _ := strings.Cut(command(t, s.server.Addr(), "", "keys", "list"), "[standard error]")
	for _, c := range []struct {
		args, env string
		coloured  bool
	}{{"keys list", "TERM=xterm", true}, {"keys list", "NO_COLOR=1", false}, {"keys list", "TERM=dumb", false}, {"keys list --output json", "TERM=xterm", false}, {"stats", "TERM=xterm", true}} {
		keyboard, screen := openTerminal(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(c.args)...) //nolint:gosec // this very binary
		cmd.Env = append(os.Environ(), program+"=1", "REDIS_URL=redis://"+s.server.Addr(), "NO_COLOR=", c.env)
		cmd.Stdout = screen
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		_ = screen.Close()
		text, _ := io.ReadAll(keyboard) // it ends with an error, since the terminal is gone
		got := strings.ReplaceAll(string(text), "\r\n", "\n")
		if coloured := strings.Contains(got, "\x1b["); coloured != c.coloured {
			t.Errorf("%s with %s: coloured %t\n%q", c.args, c.env, coloured, got)
		}
		without := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(got, "")
		if c.args == "keys list" && without != plain {
			t.Errorf("without colours it is\n%s\nwant\n%s", without, plain)
		}
	}
}
