package httpidem

// GitHubWebhook describes the webhooks of GitHub. The ID of an event is that of its delivery, which
// a redelivery repeats.
//
// GitHub signs neither this ID nor a time. A person who has read a delivery can therefore send it
// again with another ID, and the handler runs again. Serve the endpoint by TLS only.
//
// GitHub does not deliver an event again by itself after a failure. Redeliver failed deliveries
// with its API. Its payloads have up to 25 MB, so raise Config.MaxBodyBytes for large ones.
func GitHubWebhook(secrets ...string) Webhook {
	return Webhook{Sender: "github", Event: KeySource{Header: "X-Github-Delivery"}, Scheme: SignatureGitHub, Secrets: secrets}
}

// ShopifyWebhook describes the webhooks of Shopify. A secret is the client secret of the app.
//
// The ID of an event is that of its delivery, which Shopify's page on verifying deliveries names
// for duplicates. Each subscription to a topic has a delivery of its own. Its page on duplicates
// names X-Shopify-Event-Id, which these share: to run the handler once for all of them, set Event
// to that header field.
//
// Shopify signs neither the ID of a webhook nor a time. A person who has read a delivery can
// therefore send it again with another ID, and the handler runs again. Serve the endpoint by TLS
// only.
func ShopifyWebhook(secrets ...string) Webhook {
	return Webhook{Sender: "shopify", Event: KeySource{Header: "X-Shopify-Webhook-Id"}, Scheme: SignatureShopify, Secrets: secrets}
}

// StandardWebhook describes the webhooks of a sender that follows Standard Webhooks with symmetric
// signatures (v1). A secret is base64, with or without "whsec_" in front.
func StandardWebhook(sender string, secrets ...string) Webhook {
	return Webhook{Sender: sender, Event: KeySource{Header: "Webhook-Id"}, Scheme: SignatureStandard, Secrets: secrets}
}

// StripeWebhook describes the webhooks of Stripe. The ID of an event is in its body. A secret is
// that of the endpoint, with its "whsec_".
func StripeWebhook(secrets ...string) Webhook {
	return Webhook{Sender: "stripe", Event: KeySource{Body: "/id"}, Scheme: SignatureStripe, Secrets: secrets}
}

// SvixWebhook describes the webhooks of a sender that uses Svix. They are Standard Webhooks whose
// header fields begin with svix- in place of webhook-.
func SvixWebhook(sender string, secrets ...string) Webhook {
	return Webhook{Sender: sender, Event: KeySource{Header: "Svix-Id"}, Scheme: SignatureSvix, Secrets: secrets}
}
