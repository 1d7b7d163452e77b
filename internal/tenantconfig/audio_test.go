package tenantconfig

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/secret"
)

func goodAudio() *Audio {
	return &Audio{
		AgentURL:   "wss://bot.acme.example/stream",
		Protocol:   "twilio",
		MaxStreams: 1,
		Headers:    map[string]secret.Sensitive{"Authorization": "Bearer key", "X-A": "b"},
		Verifiers:  &Webhooks{Token: &Token{Secrets: []secret.Sensitive{"0123456789abcdef"}}},
	}
}

// TestAudioCheck verifies which audio configs a pod accepts, and that no error quotes a secret.
func TestAudioCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Audio)
		want   string // empty: taken
	}{
		"good":             {func(*Audio) {}, ""},
		"no verifiers":     {func(a *Audio) { a.Verifiers = nil }, ""},
		"http":             {func(a *Audio) { a.AgentURL = "https://bot/?key=hush" }, "not a ws or wss URL"},
		"no host":          {func(a *Audio) { a.AgentURL = "wss:///x" }, "not a ws or wss URL"},
		"protocol":         {func(a *Audio) { a.Protocol = "sip" }, `"sip"`},
		"no streams":       {func(a *Audio) { a.MaxStreams = 0 }, "below 1"},
		"handshake header": {func(a *Audio) { a.Headers["Sec-WebSocket-Key"] = "hush" }, "belongs to the handshake"},
		"host":             {func(a *Audio) { a.Headers["host"] = "hush" }, "belongs to the handshake"},
		"header's name":    {func(a *Audio) { a.Headers["a b"] = "hush" }, "not a header name"},
		"line break":       {func(a *Audio) { a.Headers["X-A"] = "hush\n" }, "line break"},
		"injected":         {func(a *Audio) { a.Headers["X-A"] = "hush\r\nX-B: c" }, "control character"},
		"empty":            {func(a *Audio) { a.Headers["X-A"] = "" }, "empty"},
		"too long": {func(a *Audio) {
			a.Headers["X-A"] = secret.Sensitive(strings.Repeat("h", maxHeaderLength+1))
		}, "longer than"},
		"signature": {func(a *Audio) { a.Verifiers.Standard = &StandardWebhooks{} }, "looks at a body"},
		"capture":   {func(a *Audio) { a.Capture = &Capture{KeyTemplate: "{{.RecordingID}}"} }, ""},
		"capture's key": {func(a *Audio) {
			a.Capture = &Capture{KeyTemplate: "{{.CallSID}}"}
		}, "must contain {{.RecordingID}}"},
		"bad verifier": {func(a *Audio) { a.Verifiers.Token.Secrets = []secret.Sensitive{"hush"} }, "shorter"},
	} {
		t.Run(name, func(t *testing.T) {
			audio := goodAudio()
			tc.change(audio)
			err := audio.check()
			if (err == nil) != (tc.want == "") ||
				(err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hush"))) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestAudioDigest verifies that each change gives another digest, and that the digest does not hold a secret.
func TestAudioDigest(t *testing.T) {
	digest := func(change func(*Audio)) string {
		audio := goodAudio()
		change(audio)
		return Tenant{ID: "acme/support", Audio: audio}.Digest()
	}
	seen := map[string]string{digest(func(*Audio) {}): "as it is"}
	for name, change := range map[string]func(*Audio){
		"header": func(a *Audio) { a.Headers["X-A"] = "c" },
		"swapped": func(a *Audio) {
			a.Headers["X-A"], a.Headers["Authorization"] = a.Headers["Authorization"], a.Headers["X-A"]
		},
		"verifier": func(a *Audio) { a.Verifiers.Token.Secrets[0] = "fedcba9876543210" },
		"one time": func(a *Audio) { a.OneTimeToken = true },
		"capture":  func(a *Audio) { a.Capture = &Capture{KeyTemplate: "{{.RecordingID}}"} },
		"key":      func(a *Audio) { a.Capture = &Capture{KeyTemplate: "{{.Date}}/{{.RecordingID}}"} },
	} {
		d := digest(change)
		if other, known := seen[d]; known {
			t.Errorf("%s is the same as %s", name, other)
		}
		seen[d] = name
	}
	for _, v := range goodAudio().digested("acme/support").Headers {
		if strings.Contains(v.Reveal(), "key") {
			t.Error("the digest holds a header")
		}
	}
}

// capturing is a tenant without accounts whose streams are captured.
func capturing() Tenant {
	t := withAccounts()
	t.Auth, t.Audio = nil, goodAudio()
	t.Audio.Capture = &Capture{KeyTemplate: "{{.RecordingID}}"}
	return t
}

// TestCaptureNeedsStorage verifies that capture requires storage, and that storage requires auth or capture.
func TestCaptureNeedsStorage(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Tenant)
		want   string
	}{
		"both":           {func(*Tenant) {}, ""},
		"no storage":     {func(t *Tenant) { t.Storage = nil }, "no storage for it"},
		"no capture":     {func(t *Tenant) { t.Audio.Capture = nil }, "storage without auth or capture"},
		"no audio":       {func(t *Tenant) { t.Audio = nil }, "storage without auth or capture"},
		"no credentials": {func(t *Tenant) { t.Storage.AccessKeyID = "" }, "or credentials"},
	} {
		tenant := capturing()
		tc.change(&tenant)
		data, err := EncodeTenant(tenant)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeTenant(data)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if err == nil && (got.Audio.Capture.KeyTemplate != "{{.RecordingID}}" || got.Storage == nil) {
			t.Errorf("%s: %+v", name, got.Audio)
		}
	}
}
