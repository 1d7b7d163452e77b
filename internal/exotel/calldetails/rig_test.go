package calldetails

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey   = "key-4711"
	testToken = "token-0815"
	listPath  = "/v1/Accounts/acme1/Calls.json"
)

// quick retries as in production, without its waits.
func quick() *resilience.Registry {
	return resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{
		BaseDelay: time.Millisecond,
		MaxDelay:  1500 * time.Millisecond,
	}}, nil)
}

func config(t *testing.T, base string) Config {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return Config{
		BaseURL:   base,
		AllowHTTP: true,
		Account:   "acme1",
		Key:       testKey,
		Token:     testToken,
		Registry:  quick(),
		Tenant:    "ns/acme",
		Transport: transport,
		Interval:  -1,
	}
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// against is a client of a server that behaves as Exotel does.
func against(t *testing.T, change ...func(*Config)) (*Client, *exotelsim.Server) {
	t.Helper()
	server, err := exotelsim.NewServer(exotelsim.Options{Key: testKey, Token: testToken})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c := config(t, server.URL())
	for _, f := range change {
		f(&c)
	}
	return newClient(t, c), server
}

// answering is a client of a server that answers everything with one body.
func answering(t *testing.T, status int, body string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return newClient(t, config(t, server.URL))
}

// withoutRaw compares what was read.
var withoutRaw = cmpopts.IgnoreFields(Call{}, "Raw", "RecordingURLs", "Unread")

// today is a whole second, so that it survives Exotel's spelling.
var today = time.Now().Add(-2 * time.Hour).Truncate(time.Second)

func placed(sid string, created time.Time) exotelsim.PlacedCall {
	return exotelsim.PlacedCall{
		Call: exotelsim.Call{
			SID:          sid,
			From:         "09876543210",
			To:           "09123456789",
			Started:      created,
			Ended:        created.Add(77 * time.Second),
			RecordingURL: "https://recordings.exotel.com/exotelrecordings/acme1/" + sid + ".mp3",
		},
		PhoneNumber:         "08044444890",
		Price:               "1.500",
		ConversationSeconds: 8,
	}
}
