//! Every word on the pages, in English and in French, side by side.

use crate::truth::order::{DisputeState, Flag, Status};

/// A language that the pages are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lang {
    /// English.
    En,
    /// French.
    Fr,
}

impl Lang {
    /// The one that an `Accept-Language` likes most; English when it likes neither.
    /// <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.4>
    pub(super) fn accepted(header: &str) -> Lang {
        let mut best = (Lang::En, 0.0);
        for range in header.split(',') {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let tag = tag.trim().to_ascii_lowercase();
            let lang = match tag.split('-').next() {
                Some("en") => Lang::En,
                Some("fr") => Lang::Fr,
                Some(_) | None => continue,
            };
            let weight = weight.trim().strip_prefix("q=");
            let weight = weight.and_then(|weight| weight.parse().ok()).unwrap_or(0.0);
            if weight > best.1 {
                best = (lang, weight);
            }
        }
        best.0
    }

    /// Its code in HTML.
    pub(super) fn code(self) -> &'static str {
        self.of("en", "fr")
    }

    pub(super) fn texts(self) -> &'static Texts {
        match self {
            Lang::En => &EN,
            Lang::Fr => &FR,
        }
    }

    /// One of two texts.
    fn of<T>(self, en: T, fr: T) -> T {
        match self {
            Lang::En => en,
            Lang::Fr => fr,
        }
    }
}

/// Makes a field of each row, and a table of each language.
macro_rules! texts {
    ($($name:ident: $en:expr, $fr:expr;)*) => {
        /// The fixed texts of one language.
        pub(crate) struct Texts {
            $(pub(crate) $name: &'static str,)*
        }
        static EN: Texts = Texts { $($name: $en,)* };
        static FR: Texts = Texts { $($name: $fr,)* };
        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $en, $fr),)*];
    };
}

texts! {
    skip: "Skip to the content", "Aller au contenu";
    pages: "Pages", "Pages";
    overview: "Overview", "Aperçu";
    orders: "Orders", "Commandes";
    money: "Money", "Argent";
    health: "Health", "État";
    read_only: "Read-only", "Lecture seule";
    live: "Live data", "Données réelles";
    test: "Test data", "Données de test";
    times: "Times are this machine’s:", "Heures de cette machine :";

    needs_you: "Needs you", "À traiter";
    nothing_needs_you: "Nothing needs you.", "Rien à traiter.";
    more_like_this: "All orders that need attention", "Toutes les commandes à traiter";
    today: "Today", "Aujourd’hui";
    this_month: "This month", "Ce mois-ci";
    thirty_days: "The last thirty days", "Les trente derniers jours";
    newest: "Newest orders", "Dernières commandes";
    nothing_taken: "Nothing taken", "Aucun encaissement";
    as_a_table: "As a table", "En tableau";
    no_orders: "There is no order yet.", "Il n’y a pas encore de commande.";

    order: "Order", "Commande";
    status: "Status", "Statut";
    amount: "Amount", "Montant";
    back: "Given back", "Remboursé";
    first_heard: "First heard of", "Connue depuis";
    any_status: "any", "tous";
    only_attention: "Only those that need attention", "Seulement celles à traiter";
    exact_id: "Exact id of anything", "Identifiant exact";
    exact_id_hint: "an order, or Stripe’s cs_, pi_, ch_, re_, du_", "une commande, ou cs_, pi_, ch_, re_, du_ de Stripe";
    beginning: "Name begins with", "Le nom commence par";
    show: "Show", "Afficher";
    all_orders: "All orders", "Toutes les commandes";
    none_found: "No order fits.", "Aucune commande ne correspond.";
    older: "Older orders", "Commandes plus anciennes";
    further: "Further orders", "Commandes suivantes";

    says: "It says that it is for", "Elle dit être pour";
    what_to_do: "What to do", "Que faire";
    taken: "Taken", "Encaissé";
    asked: "Asked for", "Demandé";
    held: "Held, not taken", "Retenu, pas encaissé";
    pending_back: "of that, not through yet", "dont pas encore effectué";
    disputed: "Disputed", "Contesté";
    lost: "Lost to a dispute", "Perdu par litige";
    kept: "Kept", "Conservé";
    story: "What happened", "Historique";
    told: "What the shop has heard", "Ce que la boutique sait";
    nobody_told: "Nobody is told: `paidup notify` is not in use.", "Personne n’est prévenu : `paidup notify` n’est pas utilisé.";
    told_now: "has heard this state", "connaît cet état";
    told_not: "has not heard this state", "ne connaît pas cet état";
    told_earlier: "last heard an earlier one", "en connaît un plus ancien";
    next_try: "next try", "prochain essai";
    ids: "At Stripe", "Chez Stripe";
    session: "Checkout Session", "Session Checkout";
    intent: "Payment", "Paiement";
    open_dashboard: "Open in Stripe’s Dashboard", "Ouvrir dans le Dashboard Stripe";
    fetched: "fetched", "récupéré";
    request: "request", "requête";
    new: "new", "nouvelle";
    settled: "settled", "réglé";
    changed: "Changed", "Modifiée";

    by_day: "By day", "Par jour";
    by_month: "By month", "Par mois";
    day: "Day", "Jour";
    month: "Month", "Mois";
    lost_short: "Lost", "Perdu";
    no_money: "No money has moved yet.", "Aucun mouvement pour l’instant.";
    at_most: "at most", "au plus";
    as_csv: "Download as CSV", "Télécharger en CSV";
    stripes_time: "Each amount counts on the day on which Stripe says that it moved.",
        "Chaque montant compte le jour où Stripe dit qu’il a bougé.";

    database_and_disk: "Database and disk, now", "Base et disque, maintenant";
    doctor: "Last run of `paidup doctor`", "Dernier `paidup doctor`";
    no_doctor: "It has not run yet. It asks Stripe about the endpoint: `sudo paidup doctor --env-file /etc/paidup/paidup.env`.",
        "Il n’a pas encore tourné. Il interroge Stripe : `sudo paidup doctor --env-file /etc/paidup/paidup.env`.";
    good: "good", "bon";
    warning: "warning", "attention";
    problem: "problem", "problème";

    not_found: "There is no such page.", "Cette page n’existe pas.";
    no_such_order: "No order, and nothing of Stripe’s that is known here, has this id.",
        "Aucune commande, ni rien de connu de Stripe, n’a cet identifiant.";
    several: "Several orders are for this reference.", "Plusieurs commandes portent cette référence.";
    wrong_host: "This address is not one of the page’s. Add its host to PAGE_HOSTS, or use http://localhost.",
        "Cette adresse n’est pas celle de la page. Ajoutez son hôte à PAGE_HOSTS, ou utilisez http://localhost.";
    wrong_method: "Pages can only be read.", "Les pages ne peuvent être que lues.";
    cross_site: "Another site asked for this.", "Un autre site a demandé ceci.";
    needs_login: "User paidup and the password are needed.", "Il faut l’utilisateur paidup et le mot de passe.";
    too_many: "Too many wrong passwords. Wait a minute.", "Trop de mots de passe erronés. Attendez une minute.";
    too_long: "This address is too long.", "Cette adresse est trop longue.";
    bad_query: "This address has a filter that does not exist.", "Cette adresse a un filtre qui n’existe pas.";
    took_long_next: "Leave one filter out, or give more of the beginning of the name.",
        "Retirez un filtre, ou donnez plus de lettres du début du nom.";
    took_long: "This search took more than two seconds and was ended, so that it holds up no delivery.",
        "Cette recherche a pris plus de deux secondes ; elle a été arrêtée pour ne retarder aucune livraison.";
    no_database: "The database cannot be read.", "La base ne peut pas être lue.";
    failed: "The page failed. The log has a line with this request’s id.",
        "La page a échoué. Le journal a une ligne avec l’identifiant de cette requête.";
    check_next: "`paidup check` names the cause and the next step.", "`paidup check` donne la cause et que faire.";

    parked: "Payments without an order, for over a day", "Paiements sans commande depuis plus d’un jour";
    parked_next: "`paidup events list` shows them. Does the shop set metadata or client_reference_id on its payments?",
        "`paidup events list` les montre. La boutique met-elle metadata ou client_reference_id sur ses paiements ?";
    untold: "The shop has not heard of some orders", "La boutique ignore l’état de commandes";
    untold_next: "`paidup notify status` says which and why.", "`paidup notify status` dit lesquelles et pourquoi.";
    stale: "Nothing has come from Stripe", "Rien n’est venu de Stripe";
    stale_next: "In a shop that sells daily: `sudo paidup doctor --env-file /etc/paidup/paidup.env`.",
        "Si la boutique vend chaque jour : `sudo paidup doctor --env-file /etc/paidup/paidup.env`.";
    no_event: "Stripe has sent nothing yet", "Stripe n’a encore rien envoyé";
    backup_old: "The last backup is old", "La dernière sauvegarde est ancienne";
    backup_none: "There is no backup yet", "Il n’y a pas encore de sauvegarde";
    backup_next: "`systemctl status paidup-backup.timer paidup-backup.service` says why; `sudo systemctl start paidup-backup.service` makes one.",
        "`systemctl status paidup-backup.timer paidup-backup.service` dit pourquoi ; `sudo systemctl start paidup-backup.service` en fait une.";
    disk: "The disk is filling up", "Le disque se remplit";
    disk_next: "Make room on the disk that holds DATABASE_PATH.", "Libérez de la place sur le disque de DATABASE_PATH.";
    free: "free", "libres";
    since: "since", "depuis";
}

/// The word for a status.
pub(super) fn status(status: Status, lang: Lang) -> &'static str {
    match status {
        Status::Pending => lang.of("pending", "en attente"),
        Status::Authorized => lang.of("authorized", "autorisée"),
        Status::Processing => lang.of("processing", "en cours"),
        Status::Paid => lang.of("paid", "payée"),
        Status::PartiallyRefunded => lang.of("partially refunded", "remboursée en partie"),
        Status::Refunded => lang.of("refunded", "remboursée"),
        Status::Failed => lang.of("failed", "échouée"),
        Status::Canceled => lang.of("canceled", "annulée"),
        Status::Expired => lang.of("expired", "expirée"),
    }
}

/// What a status means for the shop, where the word alone does not say it.
pub(super) fn status_means(status: Status, lang: Lang) -> &'static str {
    match status {
        Status::Pending => lang.of(
            "Nothing is paid yet. The buyer can still pay.",
            "Rien n’est encore payé. L’acheteur peut encore payer.",
        ),
        Status::Authorized => lang.of(
            "The money is held, not taken. Capture or cancel the payment before the hold ends: Dashboard → Payments.",
            "L’argent est retenu, pas encaissé. Capturez ou annulez le paiement avant la fin de la retenue : \
             Dashboard → Paiements.",
        ),
        Status::Processing => lang.of(
            "The money is on its way, which may take days, and may still fail. Wait before you ship.",
            "L’argent est en route ; cela peut prendre des jours, et encore échouer. Attendez avant d’expédier.",
        ),
        Status::Failed => lang.of(
            "No money was taken. The buyer has to pay again.",
            "Rien n’a été encaissé. L’acheteur doit payer à nouveau.",
        ),
        Status::Canceled => lang.of(
            "The payment was called off. No money was taken.",
            "Le paiement a été annulé. Rien n’a été encaissé.",
        ),
        Status::Expired => lang.of(
            "The buyer did not pay in time. No money was taken.",
            "L’acheteur n’a pas payé à temps. Rien n’a été encaissé.",
        ),
        Status::Paid | Status::PartiallyRefunded | Status::Refunded => "",
    }
}

/// The word for a dispute.
pub(super) fn dispute(dispute: DisputeState, lang: Lang) -> &'static str {
    match dispute {
        DisputeState::None => lang.of("dispute closed", "litige clos"),
        DisputeState::Open => lang.of("dispute open", "litige ouvert"),
        DisputeState::Won => lang.of("dispute won", "litige gagné"),
        DisputeState::Lost => lang.of("dispute lost", "litige perdu"),
    }
}

/// The words for a flag.
pub(super) fn flag(flag: Flag, lang: Lang) -> &'static str {
    match flag {
        Flag::DoublePayment => lang.of("paid twice", "payée deux fois"),
        Flag::AmountMismatch => lang.of("amount differs", "montant différent"),
        Flag::CurrencyMismatch => lang.of("currency differs", "devise différente"),
        Flag::NameConflict => lang.of("names two orders", "nomme deux commandes"),
        Flag::FraudWarning => lang.of("fraud warning", "alerte de fraude"),
        Flag::InReview => lang.of("in review", "en vérification"),
        Flag::FailedAfterPaid => lang.of("debit returned", "prélèvement rejeté"),
    }
}

/// What a dispute means, and what to do; nothing where nobody has to.
pub(crate) fn dispute_advice(
    dispute: DisputeState,
    lang: Lang,
) -> Option<(&'static str, &'static str)> {
    let (en, fr) = match dispute {
        DisputeState::None | DisputeState::Won => return None,
        DisputeState::Open => (
            (
                "The buyer's bank contests the payment, and the money may be withheld.",
                "Answer before the deadline: Dashboard → Payments → Disputes.",
            ),
            (
                "La banque de l’acheteur conteste le paiement ; l’argent peut être retenu.",
                "Répondez avant l’échéance : Dashboard → Paiements → Litiges.",
            ),
        ),
        DisputeState::Lost => (
            (
                "The buyer has the money back through the bank; that is not a refund, so the status stays.",
                "Do not refund it as well. Dashboard → Payments → Disputes has the reason.",
            ),
            (
                "L’acheteur a récupéré l’argent par sa banque ; ce n’est pas un remboursement, le statut reste.",
                "Ne remboursez pas en plus. Dashboard → Paiements → Litiges donne la raison.",
            ),
        ),
    };
    Some(lang.of(en, fr))
}

/// What a flag means, and what to do.
pub(crate) fn flag_advice(flag: Flag, lang: Lang) -> (&'static str, &'static str) {
    let (en, fr) = match flag {
        Flag::DoublePayment => (
            (
                "Two payments of this order took money that was not refunded.",
                "Refund one of them: Dashboard → Payments. The flag clears when the refund arrives.",
            ),
            (
                "Deux paiements de cette commande ont encaissé de l’argent qui n’a pas été remboursé.",
                "Remboursez l’un d’eux : Dashboard → Paiements. La marque part avec le remboursement.",
            ),
        ),
        Flag::AmountMismatch => (
            (
                "What was taken is not what the session asked for.",
                "Compare the payment with the order before it ships: Dashboard → Payments.",
            ),
            (
                "Le montant encaissé n’est pas celui que la session demandait.",
                "Comparez le paiement et la commande avant l’envoi : Dashboard → Paiements.",
            ),
        ),
        Flag::CurrencyMismatch => (
            (
                "What was taken is in another currency than the session asked for.",
                "Compare the payment with the order before it ships: Dashboard → Payments.",
            ),
            (
                "L’encaissement est dans une autre devise que celle de la session.",
                "Comparez le paiement et la commande avant l’envoi : Dashboard → Paiements.",
            ),
        ),
        Flag::NameConflict => (
            (
                "A payment names two orders, or an order that another session was created for.",
                "Check where the shop creates its sessions, and the other order; `paidup orders show ID` finds it by \
                 that id.",
            ),
            (
                "Un paiement nomme deux commandes, ou une commande créée pour une autre session.",
                "Vérifiez où la boutique crée ses sessions, et l’autre commande ; `paidup orders show ID` la trouve \
                 par cet identifiant.",
            ),
        ),
        Flag::FraudWarning => (
            (
                "The card's issuer considers the payment fraudulent. A dispute is likely to follow.",
                "Do not ship. Refund it before it is disputed: Dashboard → Payments.",
            ),
            (
                "La banque de la carte juge le paiement frauduleux. Un litige est probable.",
                "N’expédiez pas. Remboursez avant le litige : Dashboard → Paiements.",
            ),
        ),
        Flag::InReview => (
            (
                "The payment is in review: nobody has decided yet whether it is genuine.",
                "Approve or refund it before the order ships: Dashboard → Radar → Reviews.",
            ),
            (
                "Le paiement est en vérification : personne n’a encore décidé s’il est honnête.",
                "Approuvez-le ou remboursez-le avant l’envoi : Dashboard → Radar → Vérifications.",
            ),
        ),
        Flag::FailedAfterPaid => (
            (
                "A debit that had succeeded was returned: the money is gone.",
                "Ask the buyer to pay again, and do not ship meanwhile: Dashboard → Payments.",
            ),
            (
                "Un prélèvement réussi a été rejeté : l’argent est reparti.",
                "Demandez à l’acheteur de payer à nouveau et n’expédiez pas : Dashboard → Paiements.",
            ),
        ),
    };
    lang.of(en, fr)
}

/// `12 orders`.
pub(super) fn orders(count: i64, lang: Lang) -> String {
    let word = match count {
        1 => lang.of("order", "commande"),
        _ => lang.of("orders", "commandes"),
    };
    format!("{} {word}", number(count, lang))
}

/// `1,200`.
pub(super) fn number(number: i64, lang: Lang) -> String {
    grouped(&number.to_string(), lang)
}

/// `3 days`, `2 hours` or `5 minutes`: the largest unit that is full.
pub(super) fn age(seconds: i64, lang: Lang) -> String {
    let (number, one, many) = match seconds {
        86_400.. => (
            seconds / 86_400,
            lang.of("day", "jour"),
            lang.of("days", "jours"),
        ),
        3_600.. => (
            seconds / 3_600,
            lang.of("hour", "heure"),
            lang.of("hours", "heures"),
        ),
        _ => (seconds.max(0) / 60, "minute", "minutes"),
    };
    format!("{number} {}", if number == 1 { one } else { many })
}

/// An amount as [`money::written`](crate::truth::money::written) has it, as people of that language
/// write numbers.
pub(super) fn amount(written: &str, lang: Lang) -> String {
    let Some((number, code)) = written.split_once(' ') else {
        return written.to_owned();
    };
    if !number.bytes().any(|byte| byte.is_ascii_digit()) {
        return written.to_owned();
    }
    // A narrow space that does not break.
    format!("{}\u{a0}{code}", grouped(number, lang))
}

fn grouped(number: &str, lang: Lang) -> String {
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("−", number),
        None => ("", number),
    };
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let (group, point) = lang.of((',', '.'), ('\u{202f}', ','));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(group);
        }
        text.push(digit);
    }
    if !rest.is_empty() {
        text.push(point);
        text.push_str(rest);
    }
    text
}

/// The name of a month, 1 to 12.
pub(super) fn month(month: usize, lang: Lang) -> &'static str {
    const EN: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const FR: [&str; 12] = [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ];
    let names = lang.of(EN, FR);
    names
        .get(month.wrapping_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_says_which_language() {
        for (header, lang) in [
            ("", Lang::En),
            ("de-DE,de;q=0.9", Lang::En),
            ("fr", Lang::Fr),
            ("fr-CA,en;q=0.8", Lang::Fr),
            ("en;q=0.4, fr;q=0.5", Lang::Fr),
            ("en,fr", Lang::En),
            ("fr;q=0", Lang::En),
            ("fr;q=x,*", Lang::En),
        ] {
            assert_eq!(Lang::accepted(header), lang, "{header}");
        }
    }

    #[test]
    fn every_text_is_there_in_both() {
        for (name, en, fr) in ALL {
            assert!(!en.trim().is_empty() && !fr.trim().is_empty(), "{name}");
            assert_eq!(en.matches('`').count(), fr.matches('`').count(), "{name}");
            assert_eq!(en.ends_with('.'), fr.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (written, en, fr) in [
            (
                "1234567.89 EUR",
                "1,234,567.89\u{a0}EUR",
                "1\u{202f}234\u{202f}567,89\u{a0}EUR",
            ),
            ("25.00 EUR", "25.00\u{a0}EUR", "25,00\u{a0}EUR"),
            ("2500 JPY", "2,500\u{a0}JPY", "2\u{202f}500\u{a0}JPY"),
            ("-1.50 EUR", "−1.50\u{a0}EUR", "−1,50\u{a0}EUR"),
            (
                "amount not known yet",
                "amount not known yet",
                "amount not known yet",
            ),
        ] {
            assert_eq!(
                (amount(written, Lang::En), amount(written, Lang::Fr)),
                (en.into(), fr.into())
            );
        }
    }
}
