package calldetails

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

func wantCall(sid string, created time.Time) Call {
	return Call{
		SID:          sid,
		AccountSID:   "acme1",
		CreatedAt:    created,
		UpdatedAt:    created.Add(77 * time.Second),
		StartedAt:    created,
		EndedAt:      created.Add(77 * time.Second),
		From:         "09876543210",
		To:           "09123456789",
		PhoneNumber:  "08044444890",
		Status:       "completed",
		State:        exotel.StateCompleted,
		Direction:    "outbound-api",
		Seconds:      77,
		Price:        "1.500",
		RecordingURL: "https://recordings.exotel.com/exotelrecordings/acme1/" + sid + ".mp3",
	}
}

func withDetails(c Call) Call {
	c.Details = &Details{
		ConversationSeconds: 8,
		Leg2:                exotel.StateCompleted,
		Legs: []exotel.Leg{
			exotel.WholeLeg(0, c.From, exotel.StateCompleted, 77), exotel.WholeLeg(1, c.To, exotel.StateCompleted, 8)},
	}
	return c
}

// TestCall asks about one call through each quirk.
func TestCall(t *testing.T) {
	ongoing := placed("c1", today)
	ongoing.Ended = time.Time{}
	ongoing.Status = "in-progress"
	ongoing.RecordingURL = ""
	wantOngoing := withDetails(wantCall("c1", today))
	wantOngoing.EndedAt = time.Time{}
	wantOngoing.UpdatedAt = today
	wantOngoing.Status = "in-progress"
	wantOngoing.State = exotel.StateInProgress
	wantOngoing.Seconds = 0
	wantOngoing.Price = ""
	wantOngoing.RecordingURL = ""
	wantOngoing.Details.Legs[0].Seconds = 0
	for name, tc := range map[string]struct {
		call         exotelsim.PlacedCall
		quirks       exotelsim.DetailQuirks
		want         Call
		wantRequests int
	}{
		"plain": {placed("c1", today), exotelsim.DetailQuirks{}, withDetails(wantCall("c1", today)), 1},
		"numbers and strings": {
			placed("c1", today),
			exotelsim.DetailQuirks{Swapped: true},
			withDetails(wantCall("c1", today)),
			1,
		},
		"going on":            {ongoing, exotelsim.DetailQuirks{}, wantOngoing, 1},
		"going on since 1970": {ongoing, exotelsim.DetailQuirks{EpochEnd: true}, wantOngoing, 1},
		"unavailable twice": {placed("c1", today), exotelsim.DetailQuirks{
			Status:   503,
			Failures: 2,
		}, withDetails(wantCall("c1", today)), 3},
		"broken off": {
			placed("c1", today),
			exotelsim.DetailQuirks{Truncations: 1},
			withDetails(wantCall("c1", today)),
			2,
		},
		"asked to wait": {placed("c1", today), exotelsim.DetailQuirks{
			TooMany:    1,
			RetryAfter: time.Second,
		}, withDetails(wantCall("c1", today)), 2},
		"asked without a time": {placed("c1", today), exotelsim.DetailQuirks{
			TooMany:    2,
			RetryAfter: -1,
		}, withDetails(wantCall("c1", today)), 3},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t)
			server.Place("acme1", tc.call)
			server.SetAllDetails(tc.quirks)
			begun := time.Now()
			got, err := client.Call(t.Context(), "c1")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, withoutRaw); d != "" {
				t.Errorf("call (-want +got):\n%s", d)
			}
			if n := server.Requests("/v1/Accounts/acme1/Calls/c1.json"); n != tc.wantRequests {
				t.Errorf("%d requests, want %d", n, tc.wantRequests)
			}
			if took := time.Since(begun); took < tc.quirks.RetryAfter {
				t.Errorf("took %s, and was asked to wait for %s", took, tc.quirks.RetryAfter)
			}
		})
	}
}

// TestCallErrors holds every failure to its kind, its number of tries and its sentence.
func TestCallErrors(t *testing.T) {
	const region = "check the region (accounts in Mumbai use api.in.exotel.com, in Singapore api.exotel.com; this " +
		"is HOST), the API key and token"
	for name, tc := range map[string]struct {
		sid          string
		quirks       exotelsim.DetailQuirks
		want         Error
		wantRequests int
		wantParts    []string
	}{
		"no such call": {"c9", exotelsim.DetailQuirks{}, Error{Kind: ErrNotFound, Status: 404}, 1,
			[]string{
				`ask Exotel about call "c9": HOST answered 404 Not Found ("The requested resource does not exist"); `,
				"account SID acme1 and the region (",
			}},
		"not known yet": {"c1", exotelsim.DetailQuirks{NotFound: 1}, Error{
			Kind:   ErrNotFound,
			Status: 404,
		}, 1, []string{"some seconds after it was placed"}},
		"unauthorized": {"c1", exotelsim.DetailQuirks{Status: 401}, Error{
			Kind:   ErrUnauthorized,
			Status: 401,
		}, 1, []string{region}},
		"forbidden": {"c1", exotelsim.DetailQuirks{
			Status:  403,
			Message: "not KYC\ncompliant",
		}, Error{
			Kind:   ErrUnauthorized,
			Status: 403,
		}, 1,
			[]string{region, `("not KYC compliant")`}},
		"rate limited": {"c1", exotelsim.DetailQuirks{TooMany: 9}, Error{
			Kind:       errRateLimited,
			Status:     429,
			RetryAfter: 30 * time.Second,
		}, 1,
			[]string{"200 requests a minute"}},
		"rate limited, no time": {"c1", exotelsim.DetailQuirks{
			TooMany:    9,
			RetryAfter: -1,
		}, Error{
			Kind:   errRateLimited,
			Status: 429,
		}, 3, nil},
		"down": {"c1", exotelsim.DetailQuirks{Status: 503}, Error{
			Kind:   ErrUnavailable,
			Status: 503,
		}, 3, []string{"HOST answered 503", "asked again later"}},
		"always broken off": {
			"c1",
			exotelsim.DetailQuirks{Truncations: 9},
			Error{Kind: ErrUnavailable},
			3,
			[]string{"broke off"},
		},
		"bad request": {"c1", exotelsim.DetailQuirks{Status: 400}, Error{
			Kind:   errRefused,
			Status: 400,
		}, 1, nil},
		"no money": {"c1", exotelsim.DetailQuirks{Status: 402}, Error{
			Kind:   errRefused,
			Status: 402,
		}, 1, []string{"plan"}},
		"redirected": {"c1", exotelsim.DetailQuirks{Status: 302}, Error{
			Kind:   errRefused,
			Status: 302,
		}, 1, nil},
		"a page": {"c1", exotelsim.DetailQuirks{HTML: true}, Error{
			Kind:   ErrUnreadable,
			Status: 200,
		}, 1, []string{"a page or XML instead of JSON", "proxy"}},
		"slow": {
			"c1",
			exotelsim.DetailQuirks{Delay: time.Second},
			Error{Kind: ErrUnavailable},
			3,
			[]string{"context deadline exceeded"},
		},
		"no id": {
			"../../x",
			exotelsim.DetailQuirks{},
			Error{Kind: errRefused},
			0,
			[]string{`call "../../x"`, "nothing was asked"},
		},
		"an empty id": {"", exotelsim.DetailQuirks{}, Error{Kind: errRefused}, 0, nil},
		"a message with secrets": {"c1", exotelsim.DetailQuirks{
			Status:  400,
			Message: "bad " + testKey + ":" + testToken,
		}, Error{
			Kind:   errRefused,
			Status: 400,
		}, 1,
			[]string{"bad (redacted):(redacted)"}},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t, func(c *Config) { c.Timeout = tc.quirks.Delay / 4 })
			server.Place("acme1", placed("c1", today))
			server.SetAllDetails(tc.quirks)
			_, err := client.Call(t.Context(), tc.sid)
			checkError(t, err, tc.want)
			for _, part := range tc.wantParts {
				if part = strings.ReplaceAll(part, "HOST", server.Addr()); !strings.Contains(fmt.Sprint(err), part) {
					t.Errorf("%v\ndoes not say %s", err, part)
				}
			}
			if n := server.Requests("/v1/Accounts/acme1/Calls/" + tc.sid + ".json"); n != tc.wantRequests {
				t.Errorf("%d requests, want %d", n, tc.wantRequests)
			}
		})
	}
}

// checkError compares the fields of an *Error, and looks for what no error may hold.
func checkError(t *testing.T, err error, want Error) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) || !errors.Is(err, want.Kind) {
		t.Fatalf("got %v (%T), want %v", err, err, want.Kind)
	}
	if got.Status != want.Status || got.RetryAfter != want.RetryAfter {
		t.Errorf("status %d, retry after %s; want %d, %s", got.Status, got.RetryAfter, want.Status, want.RetryAfter)
	}
	for e := error(got); e != nil; e = errors.Unwrap(e) {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			checkNoSecret(t, fmt.Sprintf(verb, e))
		}
	}
}

func checkNoSecret(t *testing.T, s string) {
	t.Helper()
	for _, secret := range []string{testKey, testToken, "a2V5LTQ3MTE6", "876543210", "DateCreated=", "details=true"} {
		if strings.Contains(s, secret) {
			t.Errorf("%q holds %q", s, secret)
		}
	}
}

func TestUnauthorizedForReal(t *testing.T) {
	client, server := against(t, func(c *Config) { c.Token = "wrong" })
	server.Place("acme1", placed("c1", today))
	_, err := client.Call(t.Context(), "c1")
	checkError(t, err, Error{Kind: ErrUnauthorized, Status: 401})
}

func TestNobodyThere(t *testing.T) {
	client := newClient(t, config(t, "http://127.0.0.1:1"))
	_, err := client.Call(t.Context(), "c1")
	checkError(t, err, Error{Kind: ErrUnavailable})
	for _, part := range []string{"no answer from 127.0.0.1:1", "connection refused", "check that the host resolves"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not say %s", err, part)
		}
	}
}

func TestBreaker(t *testing.T) {
	client, server := against(t, func(c *Config) {
		c.Registry = resilience.NewRegistry(resilience.Options{
			FailureThreshold: 1,
			OpenFor:          time.Hour,
			Policy:           resilience.Policy{MaxAttempts: 1},
		}, nil)
	})
	server.SetAllDetails(exotelsim.DetailQuirks{Status: 503})
	_, err := client.Call(t.Context(), "c1")
	checkError(t, err, Error{Kind: ErrUnavailable, Status: 503})
	_, err = client.Call(t.Context(), "c1")
	var got *Error
	if !errors.As(err, &got) || !errors.Is(err, ErrUnavailable) || got.RetryAfter < 50*time.Minute ||
		!strings.Contains(err.Error(), "left alone until") {
		t.Errorf("got %v, want the open breaker's refusal", err)
	}
	if n := server.Requests("/v1/Accounts/acme1/Calls/c1.json"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestContext verifies that a caller that gives up gets the error of its context, and not ErrUnavailable.
func TestContext(t *testing.T) {
	for name, tc := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		wantErr error
	}{
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, context.DeadlineExceeded},
		"before": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t)
			server.SetAllDetails(exotelsim.DetailQuirks{Delay: 5 * time.Second})
			ctx, cancel := tc.context(t.Context())
			defer cancel()
			begun := time.Now()
			_, err := client.Call(ctx, "c1")
			if !errors.Is(err, tc.wantErr) || errors.Is(err, ErrUnavailable) || time.Since(begun) > 2*time.Second {
				t.Errorf("got %v after %s, want %v", err, time.Since(begun), tc.wantErr)
			}
		})
	}
}

// TestOddAnswers feeds answers that the stand-in does not give.
func TestOddAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   Error
	}{
		"empty":        {200, "", Error{Kind: ErrUnreadable, Status: 200}},
		"XML":          {200, "<TwilioResponse/>", Error{Kind: ErrUnreadable, Status: 200}},
		"no call":      {200, `{}`, Error{Kind: ErrUnreadable, Status: 200}},
		"call is null": {200, `{"Call":null}`, Error{Kind: ErrUnreadable, Status: 200}},
		"another call": {200, `{"Call":{"Sid":"c2"}}`, Error{Kind: ErrUnreadable, Status: 200}},
		"a list":       {200, `[]`, Error{Kind: ErrUnreadable, Status: 200}},
		"too large": {200, `{"Call":{"Sid":"` + strings.Repeat("c", maxBody) + `"}}`, Error{
			Kind:   ErrUnreadable,
			Status: 200,
		}},
		"no envelope": {404, "nothing", Error{Kind: ErrNotFound, Status: 404}},
		"code is a word": {404, `{"RestException":{"Status":"404","Message":"no","Code":"NOT_FOUND"}}`, Error{
			Kind:   ErrNotFound,
			Status: 404,
		}},
		"no message": {400, `{"RestException":[]}`, Error{Kind: errRefused, Status: 400}},
		"long message": {400, `{"RestException":{"Message":"` + strings.Repeat("ü", 5000) + `"}}`, Error{
			Kind:   errRefused,
			Status: 400,
		}},
		"no content":        {204, "", Error{Kind: errRefused, Status: 204}},
		"the proxy's error": {502, "<html>Bad Gateway</html>", Error{Kind: ErrUnavailable, Status: 502}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, tc.status, tc.body).Call(t.Context(), "c1")
			checkError(t, err, tc.want)
			if n := len(err.Error()); n > 800 {
				t.Errorf("the error is %d bytes long", n)
			}
		})
	}
}

// TestRedirectsAreNotFollowed verifies that neither the credentials nor the request reach another host.
func TestRedirectsAreNotFollowed(t *testing.T) {
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	_, err := newClient(t, config(t, server.URL)).Call(t.Context(), "c1")
	checkError(t, err, Error{Kind: errRefused, Status: 307})
	if asked != 0 {
		t.Error("the redirect was followed")
	}
}

func TestNew(t *testing.T) {
	good := Config{BaseURL: "https://api.in.exotel.com", Account: "acme1", Key: testKey, Token: testToken}
	for name, tc := range map[string]struct {
		change  func(*Config)
		wantErr string
	}{
		"good":    {func(*Config) {}, ""},
		"a slash": {func(c *Config) { c.BaseURL += "/" }, ""},
		"http, allowed": {func(c *Config) {
			c.BaseURL = "http://127.0.0.1:8090"
			c.AllowHTTP = true
		}, ""},
		"http": {func(c *Config) { c.BaseURL = "http://api.exotel.com" }, "must begin with https://"},
		"another scheme": {func(c *Config) {
			c.BaseURL = "file://host/x"
			c.AllowHTTP = true
		}, "must begin with https://"},
		"no address": {
			func(c *Config) { c.BaseURL = "" },
			"use https://api.in.exotel.com or https://api.exotel.com",
		},
		"no URL": {func(c *Config) { c.BaseURL = "https://" + testToken + "\x00" }, "is not a URL"},
		"credentials in it": {
			func(c *Config) { c.BaseURL = "https://" + testKey + ":" + testToken + "@api.exotel.com" },
			"must hold no credentials",
		},
		"a path":            {func(c *Config) { c.BaseURL += "/v1" }, "scheme and host alone"},
		"a query":           {func(c *Config) { c.BaseURL += "?a=" + testToken }, "scheme and host alone"},
		"no account":        {func(c *Config) { c.Account = "" }, "account SID is missing"},
		"a path as account": {func(c *Config) { c.Account = "../x" }, "account SID is missing or no id"},
		"no key":            {func(c *Config) { c.Key = "" }, "key or token is missing"},
		"no token":          {func(c *Config) { c.Token = "" }, "key or token is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			tc.change(&config)
			_, err := New(config)
			if (err == nil) != (tc.wantErr == "") || !strings.Contains(fmt.Sprint(err), tc.wantErr) {
				t.Fatalf("got %v, want %q", err, tc.wantErr)
			}
			checkNoSecret(t, fmt.Sprint(err))
		})
	}
}

// TestSecret prints and logs what holds the credentials in every way that comes to mind.
func TestSecret(t *testing.T) {
	c := config(t, "http://127.0.0.1:1")
	client := newClient(t, c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		checkNoSecret(t, fmt.Sprintf(verb, Secret(testToken)))
		checkNoSecret(t, fmt.Sprintf(verb, c))
	}
	j, err := json.Marshal(map[string]Secret{"token": testToken})
	if err != nil {
		t.Fatal(err)
	}
	checkNoSecret(t, string(j))
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "token", client.token, "key", c.Key)
	}
	checkNoSecret(t, log.String())
	if !strings.Contains(log.String(), redacted) {
		t.Errorf("logged %s", log.String())
	}
}

// TestPace verifies that twenty concurrent callers keep within the account's limit.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacer := NewPacer(0)
		begun := time.Now()
		done := make(chan time.Duration)
		for range 20 {
			go func() {
				if err := pacer.wait(t.Context()); err != nil {
					t.Error(err)
				}
				done <- time.Since(begun)
			}()
		}
		for i := range 20 {
			if got, want := <-done, time.Duration(i)*300*time.Millisecond; got != want {
				t.Errorf("turn %d came after %s, want %s", i, got, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := pacer.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want to give up", err)
		}
	})
}
