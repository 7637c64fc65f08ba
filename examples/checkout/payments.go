package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/redisidem/redisidem/redisidem"
)

// payments is the shop's client of the provider.
type payments struct {
	url    string
	client *http.Client
}

// errNoPayment means that the provider does not have the payment.
var errNoPayment = errors.New("the provider knows no such payment")

// charge asks for money. After an error the outcome is unknown.
func (p *payments) charge(ctx context.Context, c charge) (payment, error) {
	return p.ask(ctx, http.MethodPost, "/payments", c)
}

// find finds the payment of a charge that may have been asked for. The provider refuses the charge
// of an earlier worker from then on. After errNoPayment, a charge of this worker may still arrive.
func (p *payments) find(ctx context.Context, c charge) (payment, error) {
	return p.ask(ctx, http.MethodPost, "/payments/find", c)
}

// byID finds a payment.
func (p *payments) byID(ctx context.Context, id string) (payment, error) {
	return p.ask(ctx, http.MethodGet, "/payments/"+url.PathEscape(id), nil)
}

// confirmURL is where a customer confirms a payment, with POST.
func (p *payments) confirmURL(id string) string {
	return p.url + "/payments/" + url.PathEscape(id) + "/confirm"
}

// void calls a charge off, or returns the money. A charge that arrives later is not made.
func (p *payments) void(ctx context.Context, c charge) (payment, error) {
	return p.ask(ctx, http.MethodPost, "/payments/void", c)
}

// ask sends a request, with a body unless it is nil. The outcome is unknown after each error except
// errNoPayment.
func (p *payments) ask(ctx context.Context, method, path string, question any) (answer payment, err error) {
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return answer, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return answer, err
	}
	res, err := p.client.Do(r)
	if err != nil {
		return answer, fmt.Errorf("%w: %w", redisidem.ErrOutcomeUnknown, err)
	}
	defer func() { _ = res.Body.Close() }() // it has been read
	switch res.StatusCode {
	case http.StatusOK:
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			return answer, fmt.Errorf("%w: the provider's answer: %w", redisidem.ErrOutcomeUnknown, err)
		}
		return answer, nil
	case http.StatusNotFound:
		return answer, errNoPayment
	}
	return answer, fmt.Errorf("%w: the provider answers %s", redisidem.ErrOutcomeUnknown, res.Status)
}
