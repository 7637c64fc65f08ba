package console

import (
	"net/http"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// flowsTime is how long the server may take to send the page of flows, whose numbers are those of
// all records.
const flowsTime = 5 * time.Minute

// showFlows shows the indexes of flows, the pauses, and on demand which versions have unfinished
// keys.
func (c *Console) showFlows(v *visit) error {
	content := struct {
		Done     string // what was done to a flow just now
		Indexes  []redisidem.FlowIndex
		Pauses   []redisidem.Pause
		Counted  bool
		Versions []redisidem.OpenFlow
		States   []redisidem.KeyState
	}{States: redisidem.KeyStates()}
	o, err := c.overview.get(v.r.Context())
	if err != nil {
		return err
	}
	if o.Stats != nil {
		content.Indexes = o.Stats.Flows
	}
	if content.Pauses, err = c.inspector.Pauses(v.r.Context()); err != nil {
		return err
	}
	query := v.r.URL.Query()
	content.Done = flowActs[query.Get("done")].Done
	if query.Has("count") {
		_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(flowsTime)) // else the server's own holds
		if content.Versions, err = c.flows.get(v.r.Context()); err != nil {
			return err
		}
		content.Counted = true
	}
	return v.render(http.StatusOK, "flows", "Flows", content)
}
