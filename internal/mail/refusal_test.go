package mail

import (
	"net/textproto"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusal checks what the answers to a recipient or a message mean that well-known servers give. The texts are from
// Postfix (smtpd_check.c), Exchange Online (NDR codes), Gmail (SMTP errors), Amazon SES, Exim, Sendmail and qmail.
func TestRefusal(t *testing.T) {
	type judgement struct {
		Kind   Kind
		Server bool
	}
	forGood := judgement{Permanent, false}
	wait := judgement{Temporary, false}
	ours := judgement{Temporary, true}
	for text, tc := range map[string]struct {
		code int
		want judgement
	}{
		"5.5.2 <pod-1>: Helo command rejected: need fully-qualified hostname": {504, ours},
		"5.7.1 <pod-1>: Helo command rejected: Host not found":                {550, ours},
		"5.7.1 <a@b.example>: Relay access denied":                            {554, ours},
		"5.7.54 SMTP; Unable to relay recipient in non-accepted domain":       {550, ours},
		"relaying denied": {550, ours},
		"sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)": {553, ours},
		"relay not permitted":                                                                    {550, ours},
		"5.7.0 Authentication Required":                                                          {530, ours},
		"5.7.0 Must issue a STARTTLS command first":                                              {530, ours},
		"5.7.60 SMTP; Client does not have permissions to send as this sender":                   {550, ours},
		"5.7.1 <x@caly.example>: Sender address rejected: not owned by user caly":                {553, ours},
		"5.1.8 <x@caly.example>: Sender address rejected: Domain not found":                      {550, ours},
		"Message rejected: Email address is not verified":                                        {554, forGood},
		"5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org":      {554, ours},
		"5.7.26 This mail is unauthenticated, which poses a security risk. SPF did not pass":     {550, ours},
		"5.5.1 Error: no valid recipients":                                                       {554, ours},
		"5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table": {550, forGood},
		"5.1.1 The email account that you tried to reach does not exist":                         {550, forGood},
		"5.1.10 <a@b.example>: Recipient address rejected: Domain does not accept mail (nullMX)": {556, forGood},
		"5.2.1 The email account that you tried to reach is disabled":                            {550, forGood},
		"5.2.2 The email account that you tried to reach is over quota":                          {552, forGood},
		"5.3.4 Message size exceeds fixed limit":                                                 {552, forGood},
		"5.7.1 Message rejected as spam":                                                         {554, wait},
		"5.4.1 Recipient address rejected: Access denied":                                        {550, wait},
		"5.3.0 mail system is being rebuilt":                                                     {554, wait},
		"No such user here":                                                                      {550, forGood},
		"Requested action not taken: mailbox unavailable":                                        {550, forGood},
		"4.7.1 Greylisting in action, please come back later":                                    {450, wait},
		"4.3.2 shutting down":                                                                    {421, ours},
	} {
		e := refusal("name the recipient", &textproto.Error{Code: tc.code, Msg: text})
		if diff := cmp.Diff(tc.want, judgement{e.Kind, e.Server}); diff != "" {
			t.Errorf("%d %s (-want +got):\n%s", tc.code, text, diff)
		}
	}
}
