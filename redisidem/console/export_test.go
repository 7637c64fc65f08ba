package console

import (
	"fmt"
	"strings"
)

// PurgePageByPage lets each step of a purge end after one page.
func (c *Console) PurgePageByPage() { c.purgeTime = -1 }

// Shown returns what the overview shows of the activity: for each kind of event the count, the
// number in a second, and the mean and the longest duration.
func (a *Activity) Shown() string {
	v := a.view()
	if v == nil {
		return ""
	}
	var text strings.Builder
	for _, e := range v.Events {
		fmt.Fprintln(&text, e.Kind, e.Count, rate(e.PerSecond), e.Mean, e.Longest)
	}
	return text.String()
}
