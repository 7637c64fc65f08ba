package caddyidem

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
)

// TestLogIsThatOfThePresentConfiguration writes with one logger during two configurations, each
// with a file of its own.
func TestLogIsThatOfThePresentConfiguration(t *testing.T) {
	log := slog.New(currentLog{}).With("node", "a").WithGroup("redis").With("url", "x")
	t.Cleanup(func() {
		if err := errors.Join(caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true), caddy.Stop()); err != nil {
			t.Error(err)
		}
	})
	for _, message := range []string{"first", "second"} {
		file := filepath.Join(t.TempDir(), "log")
		name, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		config := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"file","roll":false,"filename":` + string(name) + `}}}}}`
		if err := caddy.Load([]byte(config), true); err != nil {
			t.Fatal(err)
		}
		log.Debug("too detailed")
		log.Warn(message, "left", 3)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var entry string
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "http.handlers.idempotency") {
				entry += line
			}
		}
		for _, want := range []string{`"msg":"` + message + `"`, `"node":"a"`, `"url":"x"`, `"left":3`} {
			if strings.Count(entry, "\n") != 1 || !strings.Contains(entry, want) {
				t.Errorf("the log has %q, without %s", entry, want)
			}
		}
	}
}
