/* Content negotiation: Accept headers with Kubernetes' as, g and v parameters. */
#include "api/api_priv.h"

struct clause {
    struct str type, as, g, v;
    bool refused; /* q=0 */
};

static void clause_parse(struct str text, struct clause *c) {
    *c = (struct clause){0};
    struct str rest = text;
    c->type = str_trim(str_split(&rest, ';'));
    while (rest.p) {
        struct str piece = str_trim(str_split(&rest, ';')), k, v;
        if (!str_cut(piece, '=', &k, &v))
            continue;
        k = str_trim(k);
        v = str_trim(v);
        if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
            v = str_n(v.p + 1, v.n - 2);
        if (str_eq_c(k, "as"))
            c->as = v;
        else if (str_eq_c(k, "g"))
            c->g = v;
        else if (str_eq_c(k, "v"))
            c->v = v;
        else if (str_eq_c(k, "q") && (str_eq_c(v, "0") || str_eq_c(v, "0.0")))
            c->refused = true;
    }
}

static bool clause_media(const struct clause *c, enum api_media *media) {
    if (str_eq_nocase(c->type, STR("application/json")) || str_eq_c(c->type, "*/*") ||
        str_eq_nocase(c->type, STR("application/*")) || c->type.n == 0) {
        *media = MEDIA_JSON;
        return true;
    }
    if (str_eq_nocase(c->type, STR("application/yaml"))) {
        *media = MEDIA_YAML;
        return true;
    }
    return false;
}

static bool clause_form(const struct clause *c, struct api_accept *out) {
    if (c->as.n == 0)
        return true;
    if (str_eq_c(c->g, "meta.k8s.io") && (str_eq_c(c->v, "v1") || str_eq_c(c->v, "v1beta1"))) {
        if (str_eq_c(c->as, "Table"))
            out->form = FORM_TABLE;
        else if (str_eq_c(c->as, "PartialObjectMetadata") || str_eq_c(c->as, "PartialObjectMetadataList"))
            out->form = FORM_PARTIAL;
        else
            return false;
        /* Only v1 is produced; a v1beta1 clause is followed by a v1 one or by plain JSON in every client that sends it. */
        return str_eq_c(c->v, "v1");
    }
    if (str_eq_c(c->g, "apidiscovery.k8s.io") && str_eq_c(c->v, "v2") && str_eq_c(c->as, "APIGroupDiscoveryList")) {
        out->discovery_v2 = true;
        return true;
    }
    return false;
}

bool accept_parse(struct str header, struct api_accept *out) {
    *out = (struct api_accept){0};
    if (str_trim(header).n == 0)
        return true;
    struct str rest = header;
    while (rest.p) {
        struct clause c;
        struct api_accept pick = {0};
        clause_parse(str_split(&rest, ','), &c);
        if (c.refused || !clause_media(&c, &pick.media) || !clause_form(&c, &pick))
            continue;
        *out = pick;
        return true;
    }
    return false;
}
