package node

import (
	"context"
	"crypto/x509"
	"net/netip"
	"os"
	"strconv"

	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/deliver"
	"sluice/internal/platform/webhook/send"
)

// openWebhooks prepares what tells endpoints of events.
func (n *Node) openWebhooks(context.Context) error {
	n.streams = append(n.streams, webhook.Stream(n.cfg.NATS.Replicas, Retain))
	settings, err := calling(n.cfg.Webhook)
	if err != nil {
		return err
	}
	sender := send.New(settings)
	s, err := deliver.New(n.Store, n.Queue, n.epoch, sender, n.Seals, n.Directory.Tenants,
		deliver.Config{Owner: n.owner, DisableAfter: n.cfg.Webhook.DisableAfter, Log: n.deps.Log, Metrics: n.deps.Metrics})
	n.carry = append(n.carry, lifecycle.Component{Name: "webhooks", Run: s.Run, Stop: func(context.Context) error { sender.Close(); return nil }})
	return err
}

// calling returns how endpoints are called.
func calling(c config.Webhook) (send.Config, error) {
	out := send.Config{Timeout: c.Timeout}
	for _, text := range c.Ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return out, fault.New(fault.Invalid, "webhook.ports has %q, expected ports from 1 to 65535", fault.Clip(text, 32))
		}
		out.Egress.Ports = append(out.Egress.Ports, uint16(port))
	}
	for _, text := range c.Allow {
		network, err := netip.ParsePrefix(text)
		if err != nil || network != network.Masked() {
			return out, fault.New(fault.Invalid, "webhook.allow has %q, expected networks such as 10.1.0.0/16 or fd00::/8", fault.Clip(text, 64))
		}
		out.Egress.Allow = append(out.Egress.Allow, network)
	}
	if c.CA == "" {
		return out, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return out, fault.Wrap(fault.Invalid, err, "webhook.ca=%s cannot be read", c.CA)
	}
	if out.Roots = x509.NewCertPool(); !out.Roots.AppendCertsFromPEM(text) {
		return out, fault.New(fault.Invalid, "webhook.ca=%s holds no certificate in PEM", c.CA)
	}
	return out, nil
}
