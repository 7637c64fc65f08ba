package configfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// kitchen is a configuration with every kind of field.
type kitchen struct {
	common `yaml:",inline"`
	Name   string        `yaml:"name"`
	Rooms  []room        `yaml:"rooms"`
	Mode   string        `yaml:"mode" enum:"open,closed"`
	Lease  time.Duration `yaml:"lease"`
}

type common struct {
	Size   int      `yaml:"size"`
	Labels []string `yaml:"labels"`
}

type room struct {
	Lit  *bool          `yaml:"lit"`
	Wait *time.Duration `yaml:"wait"`
	Keep word           `yaml:"keep"`
}

// word is a value with its own form.
type word string

func (w *word) UnmarshalYAML(decode func(any) error) error {
	var value any
	if err := decode(&value); err != nil {
		return err
	}
	*w = word(fmt.Sprint(value))
	if *w == "bad" {
		return errors.New("is a bad word")
	}
	return nil
}

func TestFileIsDecoded(t *testing.T) {
	t.Parallel()
	f, err := Parse("f.yaml", []byte(`
name: |
  some
  lines
size: 3
labels: [a, "1"]
lease: 1m30s
rooms:
  - &first {lit: true, wait: 2s}
  - <<: *first
    keep: 2
    lit: false
  - *first
  - lit: false
    <<: *first
`))
	if err != nil {
		t.Fatal(err)
	}
	c := kitchen{Mode: "as it was"}
	if err := f.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if c.Name != "some\nlines\n" || c.Size != 3 || !slices.Equal(c.Labels, []string{"a", "1"}) || c.Lease != 90*time.Second || c.Mode != "as it was" {
		t.Errorf("%+v", c)
	}
	if r := c.Rooms; len(r) != 4 || !*r[0].Lit || *r[1].Lit || *r[1].Wait != 2*time.Second || r[1].Keep != "2" || !*r[2].Lit || *r[3].Lit || *r[3].Wait != 2*time.Second {
		t.Errorf("%+v", r)
	}
	values, err := f.Values([]string{"size", "mode", "rooms.lit", "name.size", "none.size"})
	if err != nil || len(values) != 1 || fmt.Sprint(values["size"]) != "3" {
		t.Errorf("values %v, %v", values, err)
	}
	if f, err = Parse("f.yaml", []byte("a: &a {b: 1, c: {d: x}}\ne: *a\n")); err != nil {
		t.Fatal(err)
	}
	values, err = f.Values([]string{"a.b", "a.c.d", "a.x", "e.b"})
	if err != nil || len(values) != 3 || fmt.Sprintf("%v %v %v", values["a.b"], values["a.c.d"], values["e.b"]) != "1 x 1" {
		t.Errorf("values of mappings %v, %v", values, err)
	}
}

func TestFileThatIsEmpty(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		f, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		c := kitchen{common: common{Size: 7}}
		if err := f.Decode(&c); err != nil || c.Size != 7 {
			t.Errorf("%q: %v, %+v", text, err, c)
		}
		if values, err := f.Values([]string{"size"}); err != nil || len(values) != 0 {
			t.Errorf("%q: %v, %v", text, err, values)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"size: 3\nnmae: x\n":                       "f.yaml:2:1: nmae: unknown field",
		"rooms:\n  - lit: true\n    lihgt: true\n": "f.yaml:3:5: rooms[0].lihgt: unknown field",
		"rooms: [{lit: true}, {lit: yes please}]":  "f.yaml:1:23: rooms[1].lit: must be true or false",
		"size: 1.5":                              "f.yaml:1:1: size: must be a whole number",
		"size: '3'":                              "f.yaml:1:1: size: must be a whole number",
		"size: 99999999999999999999":             "f.yaml:1:1: size: must be a whole number",
		"size: -1":                               "f.yaml:1:1: size: must not be negative: -1",
		"name: 3":                                "f.yaml:1:1: name: must be text",
		"name: [a]":                              "f.yaml:1:1: name: must be text",
		"labels: a":                              "f.yaml:1:1: labels: must be a list",
		"labels: [a,\n  3]":                      "f.yaml:2:3: labels[1]: must be text",
		"mode: ajar":                             `f.yaml:1:1: mode: must be open or closed, not "ajar"`,
		"lease: 3":                               "f.yaml:1:1: lease: must be a duration",
		"lease: soon":                            "f.yaml:1:1: lease: must be a duration",
		"lease: -1s":                             "f.yaml:1:1: lease: must be a duration that is not negative",
		"rooms:\n  - lit: true\n    keep: bad\n": "f.yaml:3:5: rooms[0].keep: is a bad word",
		"rooms:\n  - 3\n":                        "f.yaml:2:5: rooms[0]: must be a mapping",
		"rooms:":                                 "f.yaml:1:1: rooms: has no value",
		"size: 3\nsize: 4\n":                     `f.yaml:2:1: mapping key "size" already defined`,
		"name: {":                                "f.yaml:1:7: ",
		"- 3":                                    "f.yaml:1:1: must be a mapping",
		"size: 3\n---\nsize: 4\n":                "f.yaml:3:",
		"rooms: [&a {<<: *a}]":                   "the mapping is merged into itself",
		"size: *none":                            "f.yaml:1:1: size: the anchor of alias *none does not exist",
		"labels: &l [a]\nname: *l\n":             "f.yaml:1:1: labels: must be text",
		"rooms: &r\n  - lit: true\n    wait: *r\n":  "must be a duration",
		"rooms: [{lit: &l true, keep: [{a: *l}}]\n": "f.yaml:1:",
	} {
		f, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = f.Decode(&kitchen{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}

func TestErrorOfAFieldIsLocated(t *testing.T) {
	t.Parallel()
	f, err := Parse("f.yaml", []byte("name: a\nrooms:\n  - lit: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"f.yaml:1:1: name: is taken":              Invalid("name", "is taken"),
		"f.yaml:3:5: rooms[0]: is dark":           Within("rooms[0]", errors.New("is dark")),
		"f.yaml:3:5: rooms[0].lit: is dark":       Within("rooms[0]", Invalid("lit", "is dark")),
		"f.yaml:3:5: rooms[0].wait: is missing":   Within("rooms[0]", Invalid("wait", "is missing")),
		"f.yaml:2:1: rooms[4].keep[1]: is absent": Invalid("rooms[4].keep[1]", "is absent"),
		"f.yaml:1:1: mode: is missing":            Invalid("mode", "is missing"),
		"f.yaml: anything else":                   errors.New("anything else"),
	} {
		if got := f.Locate(err); got == nil || got.Error() != want {
			t.Errorf("error is %v, want %s", got, want)
		}
	}
	if err := errors.Join(f.Locate(nil), Within("a", nil)); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}
