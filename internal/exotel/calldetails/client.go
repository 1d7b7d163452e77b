// Package calldetails asks Exotel's Call Details API v1 about calls: what became of one, and which there were. It is
// for calls whose webhooks were lost or came too early.
//
// Every request goes through package resilience. Nothing is taken on trust: bodies, pages and records are bounded, and
// the credentials go to the configured host alone.
package calldetails

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
)

// Dependency is this API's name in package resilience.
const Dependency = "exotel-api"

// Defaults of a Config.
const (
	defaultInterval = 300 * time.Millisecond // 200 a minute
	defaultTimeout  = 30 * time.Second
	defaultMaxPages = 1000 // of 100 calls
)

// BaseURL of the API in a region: "sg" for Singapore, else Mumbai.
func BaseURL(region string) string {
	if region == "sg" {
		return "https://api.exotel.com"
	}
	return "https://api.in.exotel.com"
}

// IST is the zone of Exotel's times where an account says nothing else.
var IST = time.FixedZone("IST", 5*3600+1800)

// Config of a Client.
type Config struct {
	// BaseURL is https://api.in.exotel.com (Mumbai) or https://api.exotel.com (Singapore).
	BaseURL string
	// AllowHTTP lets BaseURL be http: for a stand-in alone, since credentials cross the network with each request.
	AllowHTTP bool
	// Account is the account's SID, Key and Token are its API credentials.
	Account    string
	Key, Token Secret
	// Location is the account's zone, in which Exotel writes times and reads filters; nil means IST.
	Location *time.Location
	// Registry retries and holds the breakers; nil means one of its own. Tenant is whose breaker it is.
	Registry *resilience.Registry
	Tenant   string
	// Transport makes the connections; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Pace is the account's, shared by all its clients; nil means one of the client's own, with the Interval of
	// NewPacer.
	Pace     *Pacer
	Interval time.Duration
	// Patience is how long Exotel may ask to be left alone (429 with Retry-After) and the question is still asked again
	// after that, a few times; 0 leaves that to the caller.
	Patience time.Duration
	// Timeout of one attempt; 0 means 30 s.
	Timeout time.Duration
	// MaxPages of one listing; 0 means 1000.
	MaxPages int
}

func (c Config) withDefaults() Config {
	if c.Location == nil {
		c.Location = IST
	}
	if c.Registry == nil {
		c.Registry = resilience.NewRegistry(resilience.Options{}, nil)
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Pace == nil {
		c.Pace = NewPacer(c.Interval)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.MaxPages <= 0 {
		c.MaxPages = defaultMaxPages
	}
	return c
}

// Client asks about the calls of one account. It is safe for concurrent use.
type Client struct {
	base       *url.URL
	account    string
	key, token Secret
	secrets    *strings.Replacer // takes the credentials out of Exotel's messages
	loc        *time.Location
	registry   *resilience.Registry
	tenant     string
	http       *http.Client
	pace       *Pacer
	patience   time.Duration
	timeout    time.Duration
	maxPages   int
}

// New makes a Client. It asks nothing yet.
func New(c Config) (*Client, error) {
	c = c.withDefaults()
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	if !sidPattern.MatchString(c.Account) {
		return nil, errors.New(
			"the Exotel account SID is missing or no id: copy it from the API settings page of Exotel's dashboard",
		)
	}
	if c.Key == "" || c.Token == "" {
		return nil, errors.New(
			"the Exotel API key or token is missing: create them on the API settings page of Exotel's dashboard",
		)
	}
	return &Client{
		base:     base,
		account:  c.Account,
		key:      c.Key,
		token:    c.Token,
		secrets:  c.replacer(),
		loc:      c.Location,
		registry: c.Registry,
		tenant:   c.Tenant,
		pace:     c.Pace,
		patience: c.Patience,
		timeout:  c.Timeout,
		maxPages: c.MaxPages,
		http:     &http.Client{Transport: c.Transport, CheckRedirect: stay},
	}, nil
}

// replacer knows the credentials in the spellings in which an answer could echo them.
func (c Config) replacer() *strings.Replacer {
	basic := base64.StdEncoding.EncodeToString([]byte(string(c.Key) + ":" + string(c.Token)))
	return strings.NewReplacer(basic, redacted, string(c.Token), redacted, string(c.Key), redacted)
}

// stay follows no redirect: the API has none, and credentials have no business elsewhere.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// base checks the address. Its errors do not quote it: people put credentials into it, as Exotel's documents do.
func (c Config) base() (*url.URL, error) {
	address, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || address.Host == "":
		return nil, errors.New(
			"the Exotel API's address is not a URL: use https://api.in.exotel.com or https://api.exotel.com",
		)
	case address.Scheme != "https" && (address.Scheme != "http" || !c.AllowHTTP):
		return nil, errors.New("the Exotel API's address must begin with https://, since credentials are sent to it")
	case address.User != nil:
		return nil, errors.New(
			"the Exotel API's address must hold no credentials: give API key and token by themselves",
		)
	case strings.Trim(address.Path, "/") != "" || address.RawQuery != "" || address.Fragment != "":
		return nil, errors.New("the Exotel API's address must be scheme and host alone: the path is added to it")
	}
	return &url.URL{Scheme: address.Scheme, Host: address.Host}, nil
}

// Call asks about one call, with the details of its legs. Errors are *Error, or the context's.
func (c *Client) Call(ctx context.Context, sid string) (Call, error) {
	what := fmt.Sprintf("ask Exotel about call %.64q", sid)
	if !sidPattern.MatchString(sid) {
		return Call{}, refuse(
			what,
			"that is not a call's id: at most 64 letters, digits, '-' and '_'",
			"nothing was asked; ask with the CallSid that Exotel sent",
		)
	}
	body, err := c.get(ctx, what, c.path("Calls/"+sid+".json"), url.Values{"details": {"true"}}.Encode())
	if err != nil {
		return Call{}, err
	}
	call, err := decodeSingle(body, c.loc)
	if err == nil && call.SID != sid {
		err = errors.New("the answer is about another call")
	}
	if err != nil {
		return Call{}, unreadable(what, err)
	}
	return call, nil
}

// path below the account.
func (c *Client) path(rest string) string { return "/v1/Accounts/" + c.account + "/" + rest }
