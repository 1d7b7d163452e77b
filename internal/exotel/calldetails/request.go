package calldetails

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
)

// Bounds of bodies: a page of 100 calls is 100 KiB, an error a line.
const (
	maxBody      = 4 << 20
	maxErrorBody = 16 << 10
)

// maxWaits is how often one question waits for the account's next minute.
const maxWaits = 3

// get asks one question and returns the answer's body. It waits where Exotel asks for no more than the caller's
// patience; all who share the account's pace wait with it.
func (c *Client) get(ctx context.Context, what, path, query string) (body []byte, err error) {
	for range maxWaits {
		if left := c.pace.holds(); left > c.patience {
			return nil, &Error{
				Kind:       errRateLimited,
				RetryAfter: left,
				what:       what,
				why: "Exotel asked for " + left.Round(
					time.Second,
				).String() + " without requests of this account",
				remedy: "nothing was asked; ask again after that",
			}
		}
		body, err = c.ask(ctx, what, path, query)
		if left := c.pace.holds(); !errors.Is(err, errRateLimited) || left <= 0 || left > c.patience {
			return body, err
		}
	}
	return nil, err
}

// ask asks one question, under the account's pace and package resilience.
func (c *Client) ask(ctx context.Context, what, path, query string) (body []byte, err error) {
	url := *c.base
	url.Path = path
	url.RawQuery = query
	err = c.registry.Do(ctx, c.tenant, Dependency, func(ctx context.Context) error {
		if err := c.pace.wait(ctx); err != nil {
			return err
		}
		var err error
		body, err = c.attempt(ctx, what, url.String())
		return err
	})
	return body, c.explain(ctx, what, err)
}

func (c *Client) attempt(ctx context.Context, what, target string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, resilience.Abort(errors.New("the request cannot be made"))
	}
	req.SetBasicAuth(string(c.key), string(c.token))
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, withoutQuery(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, c.answer(resp)
	}
	return read(what, resp.Body)
}

func read(what string, r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(body) > maxBody {
		return nil, unreadable(what, fmt.Errorf("the answer has more than %d bytes", maxBody))
	}
	return body, nil
}

// answer returns the error of an unsuccessful answer.
func (c *Client) answer(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // the status says enough without it
	after := resilience.RetryAfter(resp.Header, time.Now())
	if resp.StatusCode == http.StatusTooManyRequests && after > 0 {
		c.pace.hold(after)
	}
	return &answerError{
		HTTPError: &resilience.HTTPError{Host: c.base.Host, Status: resp.StatusCode, RetryAfter: after},
		message:   c.restMessage(body),
		listing:   strings.TrimSuffix(resp.Request.URL.Path, ".json") == c.path("Calls"),
	}
}

// withoutQuery takes the query out of net/http's error. It stays a *url.Error, which is how package resilience knows
// that the connection failed.
func withoutQuery(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	bare := *u
	if at, err := url.Parse(u.URL); err == nil {
		at.RawQuery = ""
		bare.URL = at.Redacted()
	} else {
		bare.URL = ""
	}
	return &bare
}
