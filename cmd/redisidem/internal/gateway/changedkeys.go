package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// ChangedKeys returns the fields that give requests other keys in next than in r. A field is named
// after the route of next, or after that of r if next has none for the request.
func (r Policies) ChangedKeys(next Policies) (fields []string) {
	changed := make(map[string]bool)
	eachChange(r, next, func(before, after *Policies, i, j int) {
		now, then, where := before.policy(i), after.policy(j), after.fieldOf(j)
		if j < 0 {
			where = before.fieldOf(i)
		}
		if !slices.Equal(now.KeyFrom, then.KeyFrom) {
			changed[where+".key_from"] = true
		}
		if now.KeyPrefix != then.KeyPrefix {
			changed[where+".key_prefix"] = true
		}
	})
	return slices.Sorted(maps.Keys(changed))
}

// CheckFingerprints returns an error if next compares requests in another way than r did, and does
// not have that way in other_fingerprints: retries of live keys would be answered as other
// requests. It is a [configfile.FieldError] about a policy of next.
func (r Policies) CheckFingerprints(next Policies) error {
	missing := make(map[int][]string) // the fingerprints, by the index of the policy that needs them
	eachChange(r, next, func(before, after *Policies, i, j int) {
		own, _, err := before.policy(i).fingerprints()
		current, others, errNext := after.policy(j).fingerprints()
		same := func(f httpidem.Fingerprint) bool { return f.Name == own.Name }
		if err != nil || errNext != nil || same(current) || slices.ContainsFunc(others, same) {
			return
		}
		if name := cmp.Or(own.Name, "{}"); !slices.Contains(missing[j], name) {
			missing[j] = append(missing[j], name)
		}
	})
	if len(missing) == 0 {
		return nil
	}
	j := slices.Min(slices.Collect(maps.Keys(missing)))
	where := "defaults"
	if j >= 0 {
		where = fmt.Sprintf("routes[%d]", j)
	}
	return configfile.Within(where, configfile.Invalid("fingerprint",
		"differs from the fingerprint of earlier requests, whose retries would be answered as other requests: for one retention, other_fingerprints needs %s",
		strings.Join(slices.Sorted(slices.Values(missing[j])), " and ")))
}

// eachChange calls a function with the indexes of the policies that each request has before and
// after a change, as [Policies.match] returns them, and with the completed policies. It leaves out
// requests that neither protects. A route that only one has is compared with the routes, or the
// defaults, that its requests have in the other. So a policy that protects nothing says where keys
// were, or will be: protection that is taken away and given back by two reloads must not change
// them. Policies that [Policies.Complete] refuses have no changes.
func eachChange(before, after Policies, call func(before, after *Policies, i, j int)) {
	if before.Complete() != nil || after.Complete() != nil {
		return
	}
	earlier, err := before.matcher()
	if err != nil {
		return
	}
	later, err := after.matcher()
	if err != nil {
		return
	}
	eachSample(before.patterns(), after.patterns(), before.protectedMethods(), func(sample *http.Request) {
		i, j := before.match(earlier, sample, sample.URL), after.match(later, sample, sample.URL)
		if before.policy(i).protects(sample.Method) || after.policy(j).protects(sample.Method) {
			call(&before, &after, i, j)
		}
	})
}

// fieldOf names the policy of a route, or the defaults if i is -1, as messages do.
func (r *Policies) fieldOf(i int) string {
	if i < 0 {
		return "defaults"
	}
	return fmt.Sprintf("routes[%s]", r.Routes[i].Match)
}

// policy returns the policy of a route, or the defaults if i is -1.
func (r *Policies) policy(i int) *Policy {
	if i < 0 {
		return &r.Defaults
	}
	return &r.Routes[i].Policy
}

// patterns returns the patterns of the routes, and last that of the defaults.
func (r *Policies) patterns() []pattern {
	all := make([]pattern, 0, len(r.Routes)+1)
	for i := range r.Routes {
		all = append(all, parsePattern(r.Routes[i].Match))
	}
	return append(all, parsePattern("/"))
}

// protectedMethods returns the methods that a policy protects.
func (r *Policies) protectedMethods() []string {
	all := slices.Clone(r.Defaults.Methods)
	for i := range r.Routes {
		all = append(all, r.Routes[i].Methods...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// protects reports whether requests with a method have keys.
func (p *Policy) protects(method string) bool {
	return *p.Protect && slices.Contains(p.Methods, method)
}
