package httpidem_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestSnapshotOfAHeader(t *testing.T) {
	t.Parallel()
	many := make(http.Header)
	for i := range 40 {
		many["X-"+strconv.Itoa(i)] = []string{"a", "b"}
	}
	for name, h := range map[string]http.Header{
		"empty":            {},
		"small":            {"A": {"1"}, "B": {"2", "3"}, "c": {""}},
		"nil and no value": {"Date": nil, "A": {}, "B": {"1"}},
		"many values":      {"A": slices.Repeat([]string{"1"}, 20), "B": {"2"}},
		"many fields":      many,
	} {
		given := h.Clone()
		s := httpidem.SnapshotOf(given)
		if !s.Equal(given) || !s.Equal(h.Clone()) {
			t.Errorf("%s: the snapshot differs from its header", name)
		}
		for field, values := range given {
			if got := s.Get(field); !slices.Equal(got, values) {
				t.Errorf("%s: %s is %q, want %q", name, field, got, values)
			}
			changed := h.Clone()
			changed[field] = append(changed[field], "more")
			if s.Equal(changed) {
				t.Errorf("%s: the snapshot equals a header with one more value of %s", name, field)
			}
			delete(changed, field)
			changed["Other"] = values
			if s.Equal(changed) {
				t.Errorf("%s: the snapshot equals a header with another name for %s", name, field)
			}
			for i := range values {
				values[i] = "changed"
			}
			if len(values) > 0 && s.Equal(given) {
				t.Errorf("%s: the snapshot shares the values of %s", name, field)
			}
		}
		got := s.Header()
		if !maps.EqualFunc(got, h, func(a, b []string) bool { return slices.Equal(a, b) && (a == nil) == (b == nil) }) {
			t.Errorf("%s: the header is %v, want %v", name, got, h)
		}
		for _, values := range got {
			for i := range values {
				values[i] = "changed"
			}
		}
		if !s.Equal(h) {
			t.Errorf("%s: the snapshot shares its values with the header that it returned", name)
		}
		h.Set("Content-Type", "text/plain")
		if s.Equal(h) {
			t.Errorf("%s: the snapshot equals a header with one more field", name)
		}
	}
	if s := httpidem.SnapshotOf(http.Header{"A": nil}); s.Equal(http.Header{"A": {}}) || s.Equal(http.Header{"B": nil}) {
		t.Error("nil and an empty list of values are not the same")
	}
}
