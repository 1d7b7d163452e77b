package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
)

func newAgentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Stand in for a tenant's agent, to try an installation",
		Args:  cli.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(newAgentEchoCommand())
	return cmd
}

func newAgentEchoCommand() *cobra.Command {
	var listen, protocol, certFile, keyFile string
	cmd := &cobra.Command{
		Use:   "echo",
		Short: "Serve an agent that echoes the caller, until interrupted",
		Args:  cli.NoArgs,
		Long:  "The agent answers every path and does not authenticate calls: restrict who can reach it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := serverTLS(certFile, keyFile)
			if err != nil {
				return err
			}
			server, err := agentsim.NewServer(agentsim.Options{
				Listen:   listen,
				Protocol: agent.Protocol(protocol),
				TLS:      config,
			})
			if err != nil {
				return err
			}
			defer server.Close()
			cmd.Printf("echoing at %s in the protocol %s\n", server.URL(), protocol)
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8091", "address")
	cmd.Flags().StringVar(&protocol, "protocol", string(agent.Exotel), "exotel, twilio or pcm")
	cmd.Flags().StringVar(&certFile, "tls-cert-file", "", "file with the certificate, for wss; plain ws if empty")
	cmd.Flags().StringVar(&keyFile, "tls-key-file", "", "file with its key")
	return cmd
}

// serverTLS is nil without files.
func serverTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil //nolint:nilnil // nil is a server without TLS
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("--tls-cert-file and --tls-key-file go together")
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate and its key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
