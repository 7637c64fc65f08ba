package limit

import (
	"reflect"
	"strings"
	"testing"
)

// lifecycle returns commands that a lifecycle might have, in a different order than now.
func lifecycle(value, token, fence string) [][]string {
	record := "bench:{1}:" + value
	return [][]string{
		{"evalsha", "sha2", "2", record + ":lock", record, "10000", "op", "4 op " + value + " /", token},
		{"evalsha", "sha3", "2", record, record + ":lock", "0 " + token, "finished", "2 " + token + " " + fence + " ", "10000"},
	}
}

func TestTemplateFindsWhatChangesWhereverItIs(t *testing.T) {
	t.Parallel()
	template, err := newTemplate(lifecycle(exampleKey, "token-1", "17"), lifecycle(exampleKey2, "token-2", "18"))
	if err != nil {
		t.Fatal(err)
	}
	holes := func(command []word) (all [][]hole) {
		for _, w := range command {
			var of []hole
			for _, p := range w {
				of = append(of, p.hole)
			}
			all = append(all, of)
		}
		return all
	}
	text := []hole{fixed}
	for _, c := range []struct {
		command []word
		want    [][]hole
	}{
		{template.Claim, [][]hole{text, text, text, {lock}, {record}, text, text, {fixed, key, fixed}, {token}}},
		{template.Commit, [][]hole{text, text, text, {record}, {lock}, {fixed, token}, text, {fixed, token, fixed, fence, fixed}, text}},
	} {
		if got := holes(c.command); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v, not %v", got, c.want)
		}
	}
}

func TestTemplateRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(other [][]string){
		"a new word in claim":    func(o [][]string) { o[0][5] = "10001" },
		"a new word in commit":   func(o [][]string) { o[1][2] = "1" },
		"no fence":               func(o [][]string) { o[1][7] = "2 token-2 17 " },
		"the same token":         func(o [][]string) { o[0][8] = "token-1" },
		"one word more in claim": func(o [][]string) { o[0] = append(o[0], "more") },
		"a claim without a lock": func(o [][]string) { o[0][2] = "1" },
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			t.Parallel()
			other := lifecycle(exampleKey2, "token-2", "18")
			change(other)
			if got, err := newTemplate(lifecycle(exampleKey, "token-1", "17"), other); err == nil {
				t.Errorf("made %+v", got)
			} else {
				t.Log(err)
			}
		})
	}
}
