package redisidem_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// TestReadmeListsEachFieldOfConfig compares the table of the README with the struct: its fields in
// their order, and their defaults.
func TestReadmeListsEachFieldOfConfig(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	mustBe(t, err, nil)
	_, section, _ := strings.Cut(string(readme), "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1]+": "+row[2])
	}
	worded := map[string]string{"Owner": "host name and process number", "Logger": "discards"}
	client := redis.NewClient(options("127.0.0.1:1", 3))
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, nil)
	mustBe(t, err, nil)
	defaults := reflect.ValueOf(svc.Config())
	var want []string
	for _, field := range reflect.VisibleFields(defaults.Type()) {
		text, ok := worded[field.Name]
		if !ok {
			text = cell(defaults.FieldByIndex(field.Index))
		}
		want = append(want, field.Name+": "+text)
	}
	if !slices.Equal(listed, want) {
		t.Errorf("the README lists\n%s\nand Config has\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
}

// cell formats a default as the table does.
func cell(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		for _, unit := range []struct {
			length time.Duration
			name   string
		}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
			if x != 0 && x%unit.length == 0 {
				return fmt.Sprintf("%d %s", x/unit.length, unit.name)
			}
		}
		return "0"
	case int:
		if x != 0 && x%(1<<20) == 0 {
			return fmt.Sprintf("%d MiB", x>>20)
		}
		return fmt.Sprint(x)
	case string:
		return fmt.Sprintf("`%q`", x)
	}
	if v.Kind() == reflect.Interface && v.IsNil() || v.Kind() == reflect.Pointer && v.IsNil() {
		return "nil"
	}
	return fmt.Sprint(v)
}

func TestConfigBounds(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(options("127.0.0.1:1", 3))
	defer func() { _ = client.Close() }()
	for _, c := range []struct {
		field, word string
		cfg         redisidem.Config
	}{
		{"Config.Namespace", "braces", redisidem.Config{Namespace: "{orders}"}},
		{"Config.Namespace", "braces", redisidem.Config{Namespace: "orders}"}},
		{"Config.Namespace", "255", redisidem.Config{Namespace: strings.Repeat("x", 256)}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: 10*time.Millisecond - 1}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: 9 * time.Millisecond}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: -time.Second}},
		// The server would let it lapse before its worker stops.
		{"Config.Lease", "whole milliseconds", redisidem.Config{Lease: 10*time.Millisecond + 900*time.Microsecond}},
		{"Config.Lease", "876000h", redisidem.Config{Lease: 1 << 62, Retention: 1 << 62}},
		{"Config.Timeout", "1ms", redisidem.Config{Timeout: time.Microsecond}},
		{"Config.Timeout", "1ms", redisidem.Config{Timeout: -time.Second}},
		{"Config.DeadLetterRetention", "1ms", redisidem.Config{DeadLetterRetention: -time.Hour}},
		{"Config.Retention", "1ms", redisidem.Config{Retention: -time.Hour}},
		{"Config.Retention", "876000h", redisidem.Config{Retention: 1 << 62}},
		{"Config.Retention", "10s", redisidem.Config{Retention: 9 * time.Second}}, // the default lease is longer
		{"Config.Retention", "1m0s", redisidem.Config{Retention: time.Second, Lease: time.Minute}},
		{"Config.MaxHold", "1ms", redisidem.Config{MaxHold: 1}},
		{"Config.Durability", "-1", redisidem.Config{Durability: -1}},
		{"Config.MaxKeyBytes", "-1", redisidem.Config{MaxKeyBytes: -1}},
		{"Config.MaxKeyBytes", "36", redisidem.Config{MaxKeyBytes: 35}}, // Create's keys would be refused
		{"Config.MaxValueBytes", "-1", redisidem.Config{MaxValueBytes: -1}},
		{"Config.MaxValueBytes", "512", redisidem.Config{MaxValueBytes: 512<<20 + 1}},
	} {
		svc, err := redisidem.New(client, &c.cfg)
		mustBeInvalid(t, err, c.field, c.word)
		if svc != nil {
			t.Errorf("%+v makes a service", c.cfg)
		}
	}
	for _, cfg := range []redisidem.Config{
		{Lease: 10 * time.Millisecond, Retention: 10 * time.Millisecond, Timeout: time.Millisecond},
		{MaxHold: -1, CommitRetry: -1, Wait: -1},
		{Namespace: "a:b*?\x00\xff"},
		{MaxKeyBytes: 36, MaxValueBytes: 1},
	} {
		if _, err := redisidem.New(client, &cfg); err != nil {
			t.Errorf("%+v is refused: %v", cfg, err)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(options("127.0.0.1:1", 3))
	defer func() { _ = client.Close() }()
	for _, cfg := range []*redisidem.Config{nil, {}} {
		svc, err := redisidem.New(client, cfg)
		mustBe(t, err, nil)
		got := svc.Config()
		got.Logger = nil
		host, err := os.Hostname()
		mustBe(t, err, nil)
		want := redisidem.Config{
			Namespace: "redisidem", Retention: 24 * time.Hour, DeadLetterRetention: 30 * 24 * time.Hour, Lease: 10 * time.Second, MaxHold: 15 * time.Minute,
			Timeout: 500 * time.Millisecond, CommitRetry: time.Minute, MaxKeyBytes: 255,
			MaxValueBytes: 1 << 20, CacheLife: time.Minute, Owner: host + "/" + strconv.Itoa(os.Getpid()),
		}
		if got != want {
			t.Errorf("the defaults are %+v, want %+v", got, want)
		}
	}
}

func TestTrapL12ImpossibleDurationsAreRefused(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true}) // never dialled
	defer func() { _ = client.Close() }()
	for _, d := range []time.Duration{-time.Second, time.Nanosecond, time.Millisecond - 1, 1<<63 - 1} {
		for field, cfg := range map[string]redisidem.Config{
			"Config.Lease": {Lease: d}, "Config.Retention": {Retention: d}, "Config.Timeout": {Timeout: d},
		} {
			_, err := redisidem.New(client, &cfg)
			mustBeInvalid(t, err, field)
		}
	}
	_, err := redisidem.New(client, &redisidem.Config{MaxHold: time.Nanosecond})
	mustBeInvalid(t, err, "Config.MaxHold")
	_, err = redisidem.New(client, &redisidem.Config{Lease: time.Minute, Retention: time.Second})
	mustBeInvalid(t, err, "Config.Retention")
	_, err = redisidem.New(client, &redisidem.Config{
		Lease: 10 * time.Millisecond, Retention: 10 * time.Millisecond, Timeout: time.Millisecond, MaxHold: -1,
	})
	mustBe(t, err, nil)
}
