package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// ChangedKeys returns the fields that give requests other keys in next than in r. It compares the
// policies that each request has in both, unless neither protects it. A route that only one has is
// compared with the routes, or the defaults, that its requests have in the other. So a policy that
// protects nothing says where keys were, or will be: protection that is taken away and given back
// by two reloads must not move them. A field is named after the route of next, or after that of r
// if next has none for the request. Policies that [Policies.Complete] refuses have none.
func (r Policies) ChangedKeys(next Policies) (fields []string) {
	if r.Complete() != nil || next.Complete() != nil {
		return nil
	}
	before, err := r.matcher()
	if err != nil {
		return nil
	}
	after, err := next.matcher()
	if err != nil {
		return nil
	}
	changed := make(map[string]bool)
	eachSample(r.patterns(), next.patterns(), r.protectedMethods(), func(sample *http.Request) {
		i, j := r.find(before, sample), next.find(after, sample)
		now, then := r.policy(i), next.policy(j)
		if !now.protects(sample.Method) && !then.protects(sample.Method) {
			return
		}
		where := next.fieldOf(j)
		if j < 0 {
			where = r.fieldOf(i)
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
