package idemclient_test

import (
	"math"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestConfigErrorsNameFieldAndBound(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]idemclient.TransportConfig{
		"Header must be":        {Header: "a b"},
		"Attempts must be":      {Attempts: -1},
		"MinBackoff must not":   {MinBackoff: -1},
		"MaxBackoff (1ns) must": {MinBackoff: 2, MaxBackoff: 1},
		"Patience must not":     {Patience: -1},
		"Statuses must be":      {Statuses: []int{422}},
		"MaxBodyBytes must be":  {MaxBodyBytes: -1},
		"MaxBodyBytes must be between 0 and 1099511627776": {MaxBodyBytes: math.MaxInt64},
	} {
		_, err := idemclient.NewTransport(nil, &cfg)
		if err == nil || !strings.HasPrefix(err.Error(), "idemclient: TransportConfig."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
