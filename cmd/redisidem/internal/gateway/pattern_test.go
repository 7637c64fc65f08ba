package gateway

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestSamplesStandForAllRequests compares random configurations twice: by ChangedKeys, which looks
// at samples, and by each request with up to four segments.
func TestSamplesStandForAllRequests(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it is reproducible
	differ := 0
	for range 300 {
		first, second := randomPolicies(random), randomPolicies(random)
		before, err := first.matcher()
		if err != nil {
			t.Fatal(err)
		}
		after, err := second.matcher()
		if err != nil {
			t.Fatal(err)
		}
		changed := make(map[string]bool)
		for _, path := range shortPaths("", 4) {
			for _, method := range []string{http.MethodPost, http.MethodPatch} {
				for _, host := range []string{"h", "g"} {
					r := &http.Request{Method: method, Host: host, URL: &url.URL{Path: path}}
					i, j := first.match(before, r, r.URL), second.match(after, r, r.URL)
					where := second.fieldOf(j)
					if j < 0 {
						where = first.fieldOf(i)
					}
					if first.policy(i).KeyPrefix != second.policy(j).KeyPrefix {
						changed[where+".key_prefix"] = true
					}
				}
			}
		}
		if len(changed) > 0 {
			differ++
		}
		if got, want := first.ChangedKeys(*second), slices.Sorted(maps.Keys(changed)); !slices.Equal(got, want) {
			t.Errorf("from %s\nto   %s\n%q have changed, want %q", describe(first), describe(second), got, want)
		}
	}
	if differ < 50 || differ > 290 {
		t.Errorf("%d of 300 pairs differ: the test proves little", differ)
	}
}

// shortPaths returns all paths that begin with a prefix and have up to n more segments.
func shortPaths(prefix string, n int) []string {
	paths := []string{prefix + "/"}
	if n == 0 {
		return paths
	}
	for _, s := range []string{"a", "b", "c"} {
		paths = append(paths, prefix+"/"+s)
		paths = append(paths, shortPaths(prefix+"/"+s, n-1)...)
	}
	return paths
}

// randomPolicies returns up to four routes that do not conflict, in two places.
func randomPolicies(random *rand.Rand) *Policies {
	p := &Policies{Defaults: Policy{KeyPrefix: "p-"}}
	for range random.IntN(5) {
		match := []string{"", "", "POST ", "PATCH "}[random.IntN(4)] + []string{"", "", "", "h"}[random.IntN(4)]
		for range random.IntN(3) {
			match += []string{"/a", "/b", "/{x}"}[random.IntN(3)]
			if strings.Count(match, "{x}") == 2 {
				match = strings.Replace(match, "{x}", "{y}", 1)
			}
		}
		match += []string{"/a", "/", "/{$}", "/{rest...}", "/{z}"}[random.IntN(5)]
		with := *p
		with.Routes = append(slices.Clone(p.Routes), Route{Match: match, Policy: Policy{KeyPrefix: []string{"p-", "q-"}[random.IntN(2)]}})
		if with.Complete() == nil {
			p = &with
		}
	}
	if err := p.Complete(); err != nil {
		panic(err)
	}
	for i := range p.Routes {
		p.Routes[i].Methods = []string{http.MethodPatch, http.MethodPost}
	}
	return p
}

// describe returns the routes of policies in one line.
func describe(p *Policies) string {
	var text []string
	for i := range p.Routes {
		text = append(text, p.Routes[i].Match+" "+p.Routes[i].KeyPrefix)
	}
	return strings.Join(text, ", ")
}
