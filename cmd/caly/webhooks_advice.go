package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// printFindings prints what each verifier says. Nothing of the request or of a secret is printed.
func printFindings(cmd *cobra.Command, id string, w *tenantconfig.Webhooks, findings []verify.Finding) {
	switch {
	case len(findings) == 0:
		cmd.Printf("tenant %s has no verifier: every webhook is rejected\n", id)
	case w.RequireAll:
		cmd.Printf("tenant %s: every verifier must accept\n", id)
	default:
		cmd.Printf("tenant %s: one verifier must accept\n", id)
	}
	for _, f := range findings {
		if f.Reason == "" {
			cmd.Printf("%s: accepted\n", f.Verifier)
			continue
		}
		cmd.Printf("%s: rejected, reason %s\n  %s\n", f.Verifier, f.Reason, verifierAdvice(w, f))
	}
}

// verifierAdvice returns what a verifier found, and what the sender must change.
func verifierAdvice(w *tenantconfig.Webhooks, f verify.Finding) string {
	switch f.Verifier {
	case verify.VerifierSignature:
		return signatureAdvice(w.Signature, f.Reason)
	case verify.VerifierStandard:
		return standardAdvice(w.Standard, f.Reason)
	case verify.VerifierToken:
		return tokenAdvice(w.Token, f.Reason)
	case verify.VerifierBasic:
		if f.Reason == verify.ReasonMissingBasicAuth {
			return "The header Authorization is missing. " +
				"Send it: Basic, with a key of the Secret as the user and its value as the password."
		}
		return "The header Authorization is not Basic, is there twice, or is not of any key of the Secret. " +
			"Send a key as the user and its value as the password."
	}
	return "The client's address is not in allowedCIDRs. Send from one of these ranges. Behind a proxy, the data plane's " +
		"--trusted-proxies must name it; give --remote-address and --trusted-proxies here as they are there."
}

// signatureAdvice is for the verifier of a signature in a header.
func signatureAdvice(s *tenantconfig.Signature, reason string) string {
	header := cmp.Or(s.Header, tenantconfig.DefaultSignatureHeader)
	switch reason {
	case verify.ReasonMissingSignature:
		return fmt.Sprintf("The header %s is missing. Send the signature in it.", header)
	case verify.ReasonUnsignedBody:
		return "The body is neither a form nor named by bodySHA256 in the signed URL. " +
			"Send a form, or add the body's SHA-256 in hex as the parameter bodySHA256 before the URL is signed."
	case verify.ReasonBadTimestamp, verify.ReasonStaleTimestamp:
		return timestampAdvice(reason, s.TimestampHeader, s.Tolerance.String())
	}
	return fmt.Sprintf(
		"The header %s is not the %s of %s with any key of the Secret. "+
			"Check, in this order: that the header "+
			"is there once; the secret; that the bytes are signed as they are sent; that nothing changes them on the way; "+
			"the encoding (%s) and the prefix.",
		header,
		s.Scheme,
		signedBytes(s),
		cmp.Or(s.Encoding, tenantconfig.EncodingAny),
	)
}

// signedBytes names what a signature is made over.
func signedBytes(s *tenantconfig.Signature) string {
	switch s.SignedContent {
	case tenantconfig.SignedURLAndParameters:
		return "the URL with its query, as the sender wrote it, and the form's parameters in the order of their names"
	case tenantconfig.SignedTimestampAndBody:
		return "the header " + s.TimestampHeader + ", a full stop and the raw body (the raw query of a GET)"
	}
	return "the raw body (the raw query of a GET)"
}

// standardAdvice is for the verifier of Standard Webhooks.
func standardAdvice(s *tenantconfig.StandardWebhooks, reason string) string {
	switch reason {
	case verify.ReasonMissingStandard:
		return "The headers webhook-id, webhook-timestamp and webhook-signature are missing. Send each of them once."
	case verify.ReasonBadTimestamp, verify.ReasonStaleTimestamp:
		return timestampAdvice(reason, "webhook-timestamp", s.Tolerance.String())
	}
	return "The header webhook-signature has no v1 signature of the id, the timestamp and the raw body with any key of the Secret. " +
		"Sign with the secret decoded from base64, without whsec_. webhook-id must not be empty or have a full stop."
}

// timestampAdvice is for a time of signing.
func timestampAdvice(reason, header, tolerance string) string {
	if reason == verify.ReasonBadTimestamp {
		return fmt.Sprintf(
			"The header %s is not a time in whole seconds since 1970. Send digits alone, at most 12.", header,
		)
	}
	return fmt.Sprintf(
		"The signature is right, and the time in the header %s is more than %s from now. "+
			"Set the sender's clock, or sign "+
			"each try again. For a request that was captured earlier, give --at.",
		header, tolerance,
	)
}

// tokenAdvice is for the verifier of a token in the URL.
func tokenAdvice(t *tenantconfig.Token, reason string) string {
	query := cmp.Or(t.Query, tenantconfig.DefaultTokenQuery)
	if reason == verify.ReasonMissingToken {
		return fmt.Sprintf(
			"The URL has no token. Add it as the parameter %s of the query, or at the end of the path.", query,
		)
	}
	return fmt.Sprintf(
		"The token in the URL (the parameter %s, or the end of the path) is not any key of the Secret, or the URL has two "+
			"different ones. Copy the URL again from the Tenant's Secret, and encode the token for a URL.",
		query,
	)
}
