package main

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // as Exotel signs
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// explainSecrets are those of the Tenants below. None may be printed.
const explainSecrets = `---
apiVersion: v1
kind: Secret
metadata: {namespace: acme, name: signing}
stringData: {a: "topsecret of the signature"}
---
apiVersion: v1
kind: Secret
metadata: {namespace: acme, name: whsec}
data: {a: d2hzZWNfTURFeU16UTFOamM0T1dGaVkyUmxabWRvYVdwcmJHMXU=}
---
apiVersion: v1
kind: Secret
metadata: {namespace: acme, name: token}
stringData: {a: "topsecret-of-the-token"}
---
apiVersion: v1
kind: Secret
metadata: {namespace: acme, name: basic}
stringData: {alice: "topsecret of alice"}
`

// explain runs the command with a Tenant whose webhooks have the spec, and a request.
func explain(t *testing.T, spec, request string, args ...string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tenant.yaml")
	tenant := "apiVersion: voice.caly.dev/v1alpha1\nkind: Tenant\nmetadata: {namespace: acme, name: support}\nspec: " + spec + "\n"
	if err := os.WriteFile(file, []byte(tenant+explainSecrets), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"webhooks", "explain", "--tenant=acme/support", "--filename=" + file}, args...)
	return explainWith(t, request, args...)
}

// explainWith runs a command with standard input.
func explainWith(t *testing.T, request string, args ...string) result {
	t.Helper()
	var out, errs strings.Builder
	cmd := newRootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(request))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	return result{out.String(), errs.String(), err}
}

// code returns the exit code that an error leads to.
func code(err error) int {
	var exit *cli.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return 1
}

// hmacOf returns the HMAC of a text.
func hmacOf(h func() hash.Hash, key, text string) []byte {
	mac := hmac.New(h, []byte(key))
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}

// captured returns a request as it arrives.
func captured(target, body string, headers ...string) string {
	lines := append([]string{
		"POST " + target + " HTTP/1.1",
		"Host: caly.example.com",
		"Content-Type: application/x-www-form-urlencoded",
		fmt.Sprintf("Content-Length: %d", len(body)),
	}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

const (
	explainPath = "/webhooks/exotel/acme/support/status"
	explainBody = "CallSid=c1&Status=completed"
	explainAt   = "--at=2026-01-31T10:00:00Z"
	signedAt    = "1769853600" // the same time
)

// explainCase is a request to a Tenant, and what is printed of it.
type explainCase struct {
	spec, request string
	args          []string
	want          map[string]string // verifier -> reason; empty: accepted
	wantResult    string
}

func explainCases() map[string]explainCase {
	sha := hex.EncodeToString(hmacOf(sha1.New, "topsecret of the signature", explainBody))
	stamped := hex.EncodeToString(hmacOf(sha1.New, "topsecret of the signature", signedAt+"."+explainBody))
	url := hex.EncodeToString(hmacOf(sha1.New, "topsecret of the signature", "https://caly.example.com"+explainPath))
	standard := "v1," + base64.StdEncoding.EncodeToString(
		hmacOf(sha256.New, "0123456789abcdefghijklmn", "m1."+signedAt+"."+explainBody))
	basic := func(user, password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	const (
		signature = "{webhooks: {signature: {secretRef: {name: signing}}}}"
		time      = "{webhooks: {signature: {secretRef: {name: signing}, signedContent: TimestampAndBody, timestamp: {header: X-Time}}}}"
		inURL     = "{webhooks: {signature: {secretRef: {name: signing}, signedContent: URLAndParameters}}}"
		whsec     = "{webhooks: {standardWebhooks: {secretRef: {name: whsec}}}}"
		token     = "{webhooks: {token: {secretRef: {name: token}}}}"
		user      = "{webhooks: {basicAuth: {secretRef: {name: basic}}}}"
		address   = "{webhooks: {allowedCIDRs: [203.0.113.0/24]}}"
		both      = "{webhooks: {basicAuth: {secretRef: {name: basic}}, allowedCIDRs: [203.0.113.0/24], require: All}}"
	)
	one := func(verifier, reason string) map[string]string { return map[string]string{verifier: reason} }
	sign := func(value string) string { return "X-Exotel-Signature: " + value }
	ids := []string{"Webhook-Id: m1", "Webhook-Timestamp: " + signedAt}
	wrong := strings.Repeat("0", 40)
	return map[string]explainCase{
		"no verifier": {"{}", captured(explainPath, explainBody), nil, nil, verify.ReasonNoVerifier},
		"signed":      {signature, captured(explainPath, explainBody, sign(sha)), nil, one("signature", ""), ""},
		"no signature": {
			signature,
			captured(explainPath, explainBody),
			nil,
			one("signature", "missing_signature"),
			"missing_signature",
		},
		"another body": {
			signature,
			captured(explainPath, explainBody+"\n", sign(sha)),
			nil,
			one("signature", "wrong_signature"),
			"wrong_signature",
		},
		"signed URL": {
			inURL,
			strings.ReplaceAll(
				captured(explainPath, "{}", sign(url)), "application/x-www-form-urlencoded", "application/json",
			),
			nil,
			one("signature", "unsigned_body"),
			"unsigned_body",
		},
		"time": {
			time,
			captured(explainPath, explainBody, sign(stamped), "X-Time: "+signedAt),
			[]string{explainAt},
			one("signature", ""),
			"",
		},
		"no time": {
			time,
			captured(explainPath, explainBody, sign(wrong), "X-Time: now"),
			nil,
			one("signature", "bad_timestamp"),
			"bad_timestamp",
		},
		"an old time": {
			time,
			captured(explainPath, explainBody, sign(stamped), "X-Time: "+signedAt),
			nil,
			one("signature", "stale_timestamp"),
			"stale_timestamp",
		},
		"standard": {
			whsec,
			captured(explainPath, explainBody, append(ids, "Webhook-Signature: "+standard)...),
			[]string{explainAt},
			one("standardWebhooks", ""),
			"",
		},
		"an old standard": {
			whsec,
			captured(explainPath, explainBody, append(ids, "Webhook-Signature: "+standard)...),
			nil,
			one("standardWebhooks", "stale_timestamp"),
			"stale_timestamp",
		},
		"not standard": {
			whsec,
			captured(explainPath, explainBody),
			nil,
			one("standardWebhooks", "missing_standard_webhooks"),
			"missing_standard_webhooks",
		},
		"a wrong standard": {
			whsec,
			captured(explainPath, explainBody, append(ids, "Webhook-Signature: v1,x")...),
			[]string{explainAt},
			one("standardWebhooks", "wrong_standard_webhooks"),
			"wrong_standard_webhooks",
		},
		"token in the path": {
			token,
			captured(explainPath+"/topsecret-of-the-token", explainBody),
			nil,
			one("token", ""),
			"",
		},
		"token": {
			token,
			captured(explainPath+"?token=topsecret-of-the-token", explainBody),
			nil,
			one("token", ""),
			"",
		},
		"no token": {
			token,
			captured(explainPath, explainBody),
			nil,
			one("token", "missing_token"),
			"missing_token",
		},
		"a wrong token": {
			token,
			captured(explainPath+"?token=topsecret-no", explainBody),
			nil,
			one("token", "wrong_token"),
			"wrong_token",
		},
		"user": {
			user,
			captured(explainPath, explainBody, basic("alice", "topsecret of alice")),
			nil,
			one("basicAuth", ""),
			"",
		},
		"no user": {
			user,
			captured(explainPath, explainBody),
			nil,
			one("basicAuth", "missing_basic_auth"),
			"missing_basic_auth",
		},
		"a wrong user": {
			user,
			captured(explainPath, explainBody, basic("bob", "topsecret of bob")),
			nil,
			one("basicAuth", "wrong_basic_auth"),
			"wrong_basic_auth",
		},
		"address": {
			address,
			captured(explainPath, explainBody),
			[]string{"--remote-address=203.0.113.7"},
			one("allowedCIDRs", ""),
			"",
		},
		"address by proxy": {address, captured(explainPath, explainBody, "X-Forwarded-For: 203.0.113.7"),
			[]string{"--remote-address=10.0.0.1", "--trusted-proxies=10.0.0.0/24"}, one("allowedCIDRs", ""), ""},
		"another address": {
			address,
			captured(explainPath, explainBody),
			nil,
			one("allowedCIDRs", "address_not_allowed"),
			"address_not_allowed",
		},
		"one of two": {both, captured(explainPath, explainBody, basic("alice", "topsecret of alice")), nil,
			map[string]string{"basicAuth": "", "allowedCIDRs": "address_not_allowed"}, "address_not_allowed"},
		"shared path": {
			signature,
			captured("/webhooks/exotel/status", explainBody, sign(sha)),
			nil,
			one("signature", ""),
			"",
		},
		"suspended": {
			"{suspend: true, webhooks: {signature: {secretRef: {name: signing}}}}",
			captured(explainPath, explainBody, sign(sha)),
			nil,
			one("signature", ""),
			"the Tenant is suspended",
		},
	}
}

// TestWebhooksExplain checks what is printed of each verifier and reason, and that nothing of a secret or a token is.
func TestWebhooksExplain(t *testing.T) {
	reasons := verify.Reasons()
	for name, tc := range explainCases() {
		reasons = slices.DeleteFunc(reasons, func(r string) bool { return r == tc.wantResult })
		t.Run(name, func(t *testing.T) {
			got := explain(t, tc.spec, tc.request, tc.args...)
			wantCode := 0
			if tc.wantResult != "" {
				wantCode = exitRejected
			}
			if code(got.err) != wantCode || strings.Contains(got.out, "result: accepted") != (wantCode == 0) {
				t.Fatalf("ends with %d, %v: %s", code(got.err), got.err, got.out)
			}
			if got.err != nil && !strings.Contains(got.err.Error(), tc.wantResult) {
				t.Errorf("ends with %v, want %s", got.err, tc.wantResult)
			}
			for verifier, reason := range tc.want {
				line := verifier + ": accepted\n"
				if reason != "" {
					line = verifier + ": rejected, reason " + reason + "\n  The " // what to change follows
				}
				if !strings.Contains(got.out, line) {
					t.Errorf("prints %s, want %s", got.out, line)
				}
			}
			if all := got.out + got.errs + fmt.Sprint(got.err); strings.Contains(all, "topsecret") ||
				strings.Contains(all, "0123456789abc") {
				t.Errorf("a secret is printed: %s", all)
			}
		})
	}
	if len(reasons) > 0 {
		t.Errorf("no case has the reasons %v", reasons)
	}
}

// TestWebhooksExplainUnreadable checks the exit codes of what cannot be read, and that no error quotes it.
func TestWebhooksExplainUnreadable(t *testing.T) {
	const spec = "{webhooks: {token: {secretRef: {name: token}}}}"
	for name, tc := range map[string]struct {
		spec, request string
		args          []string
		wantCode      int
		says          string
	}{
		"nothing":        {spec, "", nil, 2, "is not an HTTP/1.1 request"},
		"not HTTP":       {spec, "GET /?token=topsecret\r\n\r\n", nil, 2, "is not an HTTP/1.1 request"},
		"a short body":   {spec, strings.TrimSuffix(captured(explainPath, "topsecret"), "t"), nil, 2, "Content-Length"},
		"another path":   {spec, captured("/api/topsecret", ""), nil, 2, "not that of a webhook"},
		"another method": {spec, strings.Replace(captured(explainPath, ""), "POST", "PUT", 1), nil, 2, "not that of a webhook"},
		"another tenant": {spec, captured("/webhooks/exotel/globex/sales/status", ""), nil, 2, "names another Tenant"},
		"no Secret": {
			"{webhooks: {token: {secretRef: {name: gone}}}}",
			captured(explainPath, ""),
			nil,
			2,
			`Secret "gone", named by spec.webhooks.token`,
		},
		"no file":          {spec, captured(explainPath, ""), []string{"--filename=/nowhere"}, 2, "/nowhere"},
		"a mistyped field": {"{webhook: {topsecret: 1}}", captured(explainPath, ""), nil, 2, "is not a Tenant or a Secret"},
		"no such time":     {spec, "", []string{"--at=today"}, 64, "--at is not a time"},
		"no such address":  {spec, "", []string{"--remote-address=here"}, 64, "--remote-address is not an address"},
		"no such range":    {spec, "", []string{"--trusted-proxies=all"}, 64, "--trusted-proxies"},
		"no such tenant": {
			spec,
			captured("/webhooks/exotel/status", ""),
			[]string{"--tenant=acme/sales"},
			2,
			"none of the files has the Tenant acme/sales",
		},
		"not a tenant": {spec, "", []string{"--tenant=acme"}, 64, "is not namespace/name"},
	} {
		t.Run(name, func(t *testing.T) {
			got := explain(t, tc.spec, tc.request, tc.args...)
			checkFailure(t, got, tc.says)
			if code(got.err) != tc.wantCode || got.out != "" {
				t.Errorf("ends with %d and prints %q, want %d", code(got.err), got.out, tc.wantCode)
			}
		})
	}
}

// TestWebhooksExplainFromTheCluster reads the Tenant and its Secret as kubectl would.
func TestWebhooksExplainFromTheCluster(t *testing.T) {
	kube := kubetest.Get(t)
	ns := kube.NewNamespace(t)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	ref := keep(t, kube.Client, ns, "token", map[string]string{"a": "topsecret-of-the-token"})
	tenant := newTenant(ns, "support", v1alpha1.WebhooksSpec{Token: &v1alpha1.TokenSpec{SecretRef: ref}})
	if err := kube.Client.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	path := "/webhooks/exotel/" + ns + "/support/status"
	args := []string{"webhooks", "explain", "--tenant=" + ns + "/support"}
	if got := explainWith(t, captured(path+"/topsecret-of-the-token", explainBody), args...); got.err != nil {
		t.Errorf("with the token: %v, %s", got.err, got.out)
	}
	if got := explainWith(t, captured(path+"/another", explainBody), args...); code(got.err) != exitRejected {
		t.Errorf("with another token: %v, %s", got.err, got.out)
	}
	args[2] = "--tenant=" + ns + "/nobody"
	if got := explainWith(t, captured("/webhooks/exotel/status", ""), args...); code(got.err) != exitUnreadable {
		t.Errorf("without a Tenant: %v", got.err)
	}
}
