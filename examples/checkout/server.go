package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// newServer makes the shop's HTTP API: what a client needs before it completes a cart, and the
// completion. If the shop cannot serve a request, the reason is logged and not sent.
func newServer(c *checkout, log *slog.Logger) (http.Handler, error) {
	s := c.shop
	idempotency, err := httpidem.New(c.service, cartOf, &httpidem.Config{
		Key: httpidem.KeyConfig{Generate: idemclient.NewKey},
		Observer: func(ctx context.Context, e httpidem.Event) {
			if e.Status >= http.StatusInternalServerError {
				log.ErrorContext(ctx, "completion", "result", e.Result, "status", e.Status, "error", e.Err)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	complete, err := idempotency.Flow(c.flow, func(r *http.Request, _ []byte) (any, error) {
		return request{Cart: r.PathValue("id")}, nil
	})
	if err != nil {
		return nil, err
	}
	answer := func(w http.ResponseWriter, r *http.Request, v any, err error) {
		switch {
		case errors.Is(err, errUnknown):
			writeError(w, http.StatusNotFound, err.Error())
		case errors.Is(err, errCompleting), errors.Is(err, errNotCompleting), errors.Is(err, errTooLate):
			writeError(w, http.StatusConflict, err.Error())
		case err != nil:
			log.ErrorContext(r.Context(), "shop", "path", r.URL.Path, "error", err)
			writeError(w, http.StatusInternalServerError, "the shop is out of order")
		default:
			writeJSON(w, http.StatusOK, v)
		}
	}
	// answerCart answers with a cart, unless the change to it failed.
	answerCart := func(w http.ResponseWriter, r *http.Request, id string, err error) {
		var c cart
		if err == nil {
			c, err = s.cart(r.Context(), id)
		}
		answer(w, r, map[string]cart{"cart": c}, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /store/carts", func(w http.ResponseWriter, r *http.Request) {
		id, err := s.createCart(r.Context())
		answerCart(w, r, id, err)
	})
	mux.HandleFunc("GET /store/carts/{id}", func(w http.ResponseWriter, r *http.Request) {
		answerCart(w, r, r.PathValue("id"), nil)
	})
	mux.HandleFunc("POST /store/carts/{id}/line-items", func(w http.ResponseWriter, r *http.Request) {
		var item struct {
			Variant  string `json:"variant_id"`
			Quantity int64  `json:"quantity"`
		}
		if err := readJSON(w, r, &item); err != nil || item.Quantity < 1 || item.Quantity > 1000 {
			writeError(w, http.StatusBadRequest, "a line item is {\"variant_id\": ..., \"quantity\": 1 to 1000}")
			return
		}
		answerCart(w, r, r.PathValue("id"), s.addItem(r.Context(), r.PathValue("id"), item.Variant, item.Quantity))
	})
	// A cart has a payment session for each test card from the beginning, so this changes nothing
	// without a token, which selects one.
	mux.HandleFunc("POST /store/carts/{id}/payment-sessions", func(w http.ResponseWriter, r *http.Request) {
		var chosen struct {
			Token string `json:"token"`
		}
		switch err := readJSON(w, r, &chosen); {
		case err != nil && !errors.Is(err, io.EOF): // io.EOF is a request without a body
			writeError(w, http.StatusBadRequest, "a payment session is {\"token\": ...}")
		case chosen.Token == "":
			answerCart(w, r, r.PathValue("id"), nil)
		default:
			answerCart(w, r, r.PathValue("id"), s.choosePayment(r.Context(), r.PathValue("id"), chosen.Token))
		}
	})
	mux.HandleFunc("POST /store/carts/{id}/payment-session", func(w http.ResponseWriter, r *http.Request) {
		var chosen struct {
			Provider string `json:"provider_id"`
		}
		if err := readJSON(w, r, &chosen); err != nil || chosen.Provider == "" {
			writeError(w, http.StatusBadRequest, "the payment session to choose is {\"provider_id\": ...}")
			return
		}
		answerCart(w, r, r.PathValue("id"), s.choosePayment(r.Context(), r.PathValue("id"), chosen.Provider))
	})
	mux.Handle("POST /store/carts/{id}/complete", complete)
	mux.HandleFunc("POST /store/carts/{id}/withdraw", func(w http.ResponseWriter, r *http.Request) {
		err := c.withdraw(r.Context(), r.PathValue("id"))
		answer(w, r, map[string]string{"message": "the completion is called off; its key gets the answer"}, err)
	})
	mux.HandleFunc("GET /store/carts/{id}/counts", func(w http.ResponseWriter, r *http.Request) {
		counts, err := s.counts(r.Context(), r.PathValue("id"))
		answer(w, r, counts, err)
	})
	return mux, nil
}

// cartOf returns the scope of a request. The visitors of a shop do not log in: a client that knows
// a cart's random ID may complete it, and only such a client gets its answer.
func cartOf(r *http.Request) (string, error) { return r.PathValue("id"), nil }

// readJSON reads the body of a request. The completion's is read by httpidem, which has a bound of
// its own.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(v)
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"message": text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}
