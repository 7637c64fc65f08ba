package redisidem

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReadmeListsEachFieldOfConfig compares the README's table with the struct: its fields in their
// order, and their defaults.
func TestReadmeListsEachFieldOfConfig(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1]+": "+row[2])
	}
	worded := map[string]string{"Owner": "host name and process number", "Logger": "discards"}
	defaults := reflect.ValueOf((*Config)(nil).withDefaults())
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

// cell writes a default as the table does.
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
