//! Who is to hold what: the hosts and the images' contents, brought together. Hosts that are to hold the same share
//! one order.

use super::error::PreheatError;
use super::image::{Image, Needed, Part};
use super::platform::{OFFERED_MAX, PLATFORMS_MAX, Platform, Platforms};
use super::targets::{Candidate, Targets};
use super::view::ImageView;
use origin::Repository;
use proto::{PREHEAT_CONTENTS_MAX, PreheatBlob, PreheatImage};
use std::collections::{BTreeMap, BTreeSet};
use types::Digest;

/// What of an index's platforms an error names.
const NAMED_MAX: usize = 32;

/// The most blobs that the manifests of all images name together, each counted as often as it is named: so many are gone
/// through for each platform.
pub(super) const BLOBS_NAMED_MAX: usize = 8 * PREHEAT_CONTENTS_MAX;

/// The most pairs of a host and a manifest or blob that it is to hold: of each blob that a host holds there is a record in
/// the scheduler.
pub(super) const PAIRS_MAX: usize = 1_000_000;

/// A preheat that is ready to begin.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) images: Vec<ImageView>,
    /// The contents of each order; [`PLATFORMS_MAX`] at most.
    pub(crate) orders: Vec<Vec<PreheatImage>>,
    /// The hosts, each with the place of its order in `orders`.
    pub(crate) hosts: Vec<(Candidate, u8)>,
}

/// What is to be read of images, so that these hosts can be told.
///
/// # Errors
/// [`PreheatError::Senseless`] if the hosts are of too many platforms, or do not say theirs.
pub(crate) fn needed(platforms: &Platforms, hosts: &[Candidate]) -> Result<Needed, PreheatError> {
    match platforms {
        Platforms::All => Ok(Needed::All),
        Platforms::These(these) => Ok(Needed::These(these.clone())),
        Platforms::Own => {
            let own: BTreeSet<Platform> = hosts.iter().filter_map(platform_of).collect();
            if own.is_empty() {
                let why = "no host says what its platform is: name platforms";
                return Err(PreheatError::Senseless(why.to_owned()));
            }
            if own.len() > PLATFORMS_MAX {
                let why = format!("the hosts are of more than {PLATFORMS_MAX} platforms: name platforms");
                return Err(PreheatError::Senseless(why));
            }
            Ok(Needed::These(own))
        }
    }
}

/// A host's platform, if it says one.
fn platform_of(host: &Candidate) -> Option<Platform> {
    host.platform.as_str().parse().ok()
}

impl Plan {
    /// Plans what these hosts are to hold of these images. A host whose own platform no image has is left out,
    /// unless it was named.
    ///
    /// # Errors
    /// [`PreheatError::Senseless`] if an image has nothing for a platform that was named, or for any host; if a
    /// named host would hold nothing; if it is too much for one order, or for so many hosts.
    pub(crate) fn new(
        images: &[Image],
        platforms: &Platforms,
        targets: &Targets,
        hosts: Vec<Candidate>,
    ) -> Result<Self, PreheatError> {
        are_few(images)?;
        let mut orders = Orders::default();
        let hosts = match platforms {
            Platforms::All => {
                if let Some(image) = images.iter().find(|image| image.parts.is_empty()) {
                    return Err(nothing_for(image, "any platform"));
                }
                orders.for_all(images, &Needed::All, hosts)?
            }
            Platforms::These(these) => {
                let lacks = |image: &Image| these.iter().find(|platform| !image.has(platform)).cloned();
                if let Some((image, lacking)) = images.iter().find_map(|image| Some((image, lacks(image)?))) {
                    return Err(nothing_for(image, &lacking.to_string()));
                }
                orders.for_all(images, &Needed::These(these.clone()), hosts)?
            }
            Platforms::Own => {
                let all: BTreeSet<Platform> = hosts.iter().filter_map(platform_of).collect();
                if let Some(image) = images.iter().find(|image| !all.iter().any(|own| image.has(own))) {
                    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                    return Err(nothing_for(image, &all.join(", ")));
                }
                orders.for_each(images, targets, hosts)?
            }
        };
        orders.are_few_for(&hosts)?;
        Ok(Self { images: images.iter().map(view).collect(), orders: orders.0, hosts })
    }
}

/// Whether what the images' manifests name can be gone through.
fn are_few(images: &[Image]) -> Result<(), PreheatError> {
    let named: usize = images.iter().flat_map(|image| &image.parts).map(|part| part.blobs.len()).sum();
    if named > BLOBS_NAMED_MAX {
        return Err(PreheatError::Senseless(format!(
            "the manifests of the images name {named} blobs, each counted as often as it is named, more than \
             {BLOBS_NAMED_MAX}: ask for fewer images or platforms at once"
        )));
    }
    Ok(())
}

fn nothing_for(image: &Image, platforms: &str) -> PreheatError {
    let offered = image.offered.iter().take(NAMED_MAX).map(ToString::to_string);
    let offered = offered.collect::<Vec<_>>().join(", ");
    let has = if offered.is_empty() { "no image in its index".to_owned() } else { offered };
    PreheatError::Senseless(format!("{} has nothing for {platforms}; it has {has}", image.asked))
}

impl Image {
    /// Whether a part is for this platform, or for who knows which.
    fn has(&self, platform: &Platform) -> bool {
        let suits = |part: &Part| part.platform.as_ref().is_none_or(|offered| platform.accepts(offered));
        self.parts.iter().any(suits)
    }
}

/// Contents of orders, no two the same.
#[derive(Debug, Default)]
struct Orders(Vec<Vec<PreheatImage>>);

impl Orders {
    /// One order for all hosts.
    fn for_all(
        &mut self,
        images: &[Image],
        needed: &Needed,
        hosts: Vec<Candidate>,
    ) -> Result<Vec<(Candidate, u8)>, PreheatError> {
        let order = contents(images, needed)?;
        if order.is_empty() {
            return Err(PreheatError::Senseless("the images have nothing to be held".to_owned()));
        }
        let place = self.place(order);
        Ok(hosts.into_iter().map(|host| (host, place)).collect())
    }

    /// One order for each platform that hosts have.
    fn for_each(
        &mut self,
        images: &[Image],
        targets: &Targets,
        hosts: Vec<Candidate>,
    ) -> Result<Vec<(Candidate, u8)>, PreheatError> {
        let mut places: BTreeMap<Platform, Option<u8>> = BTreeMap::new();
        let mut told = Vec::with_capacity(hosts.len());
        for host in hosts {
            let place = match platform_of(&host) {
                None => None,
                Some(own) => match places.get(&own) {
                    Some(place) => *place,
                    None => {
                        let order = contents(images, &Needed::These(BTreeSet::from([own.clone()])))?;
                        let place = (!order.is_empty()).then(|| self.place(order));
                        places.insert(own, place);
                        place
                    }
                },
            };
            match place {
                Some(place) => told.push((host, place)),
                None if matches!(targets, Targets::Hosts(_)) => return Err(holds_nothing(&host)),
                None => tracing::debug!(host = %host.host, "a preheat has nothing for a host's platform"),
            }
        }
        Ok(told)
    }

    /// Where the order of these contents is, from now on.
    fn place(&mut self, order: Vec<PreheatImage>) -> u8 {
        let place = self.0.iter().position(|known| *known == order).unwrap_or_else(|| {
            self.0.push(order);
            self.0.len() - 1
        });
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// Whether the scheduler can keep account of what all these hosts will hold.
    fn are_few_for(&self, hosts: &[(Candidate, u8)]) -> Result<(), PreheatError> {
        let count = |image: &PreheatImage| image.manifests.len() + image.blobs.len();
        let counts: Vec<usize> = self.0.iter().map(|order| order.iter().map(count).sum::<usize>()).collect();
        let pairs: usize = hosts.iter().map(|(_, place)| counts[usize::from(*place)]).sum();
        if pairs > PAIRS_MAX {
            return Err(PreheatError::Senseless(format!(
                "{} hosts would hold {pairs} manifests and blobs together, more than {PAIRS_MAX}: name zones, or \
                 fewer images",
                hosts.len()
            )));
        }
        Ok(())
    }
}

fn holds_nothing(host: &Candidate) -> PreheatError {
    let why = match platform_of(host) {
        Some(own) => format!("host {} is of {own}, for which the images have nothing", host.host),
        None => format!("host {} does not say what its platform is: name platforms", host.host),
    };
    PreheatError::Senseless(why)
}

/// What belongs to the images for these platforms: each content once of each repository, below the first image that has
/// it. Of every repository, since a host may be refused by one and not by another.
fn contents(images: &[Image], needed: &Needed) -> Result<Vec<PreheatImage>, PreheatError> {
    let mut seen: BTreeSet<(&Repository, Digest)> = BTreeSet::new();
    let mut order = Vec::new();
    for image in images {
        let repository = &image.repository;
        let (mut manifests, mut blobs): (Vec<Digest>, Vec<PreheatBlob>) = (Vec::new(), Vec::new());
        for part in image.parts.iter().filter(|part| needed.takes(part.platform.as_ref())) {
            manifests.extend(part.manifests.iter().filter(|digest| seen.insert((repository, **digest))));
            blobs.extend(part.blobs.iter().filter(|blob| seen.insert((repository, blob.digest))));
        }
        if !manifests.is_empty() || !blobs.is_empty() {
            let Repository { registry, name } = repository.clone();
            order.push(PreheatImage { registry, repository: name.to_string(), manifests, blobs });
        }
    }
    if seen.len() > PREHEAT_CONTENTS_MAX {
        return Err(PreheatError::Senseless(format!(
            "the images have {} manifests and blobs, more than {PREHEAT_CONTENTS_MAX}: ask for fewer at once",
            seen.len()
        )));
    }
    Ok(order)
}

fn view(image: &Image) -> ImageView {
    let platforms: BTreeSet<String> =
        image.parts.iter().filter_map(|part| Some(part.platform.as_ref()?.to_string())).collect();
    let blobs = image.parts.iter().flat_map(|part| &part.blobs);
    let blobs: BTreeMap<Digest, u64> = blobs.map(|PreheatBlob { digest, size }| (*digest, *size)).collect();
    ImageView {
        image: image.asked.clone(),
        digest: image.digest.to_string(),
        platforms: platforms.into_iter().take(OFFERED_MAX).collect(),
        bytes: blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use origin::ImageName;
    use types::{HostId, Label};

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    /// An image of an index with a manifest for each platform; each has a layer of its own, and all have `base`.
    fn image(name: &str, platforms: &[&str]) -> Image {
        let ImageName { repository, .. } = format!("registry.test/{name}:v1").parse().unwrap();
        let part = |platform: &&str| Part {
            platform: Some(platform.parse().unwrap()),
            manifests: vec![digest(name), digest(&format!("{name} {platform}"))],
            blobs: vec![
                PreheatBlob { digest: digest("base"), size: 100 },
                PreheatBlob { digest: digest(&format!("layer of {name} {platform}")), size: 10 },
            ],
        };
        Image {
            asked: format!("registry.test/{name}:v1"),
            repository,
            digest: digest(name),
            parts: platforms.iter().map(part).collect(),
            offered: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        }
    }

    fn hosts(platforms: &[&str]) -> Vec<Candidate> {
        let host = |(n, platform): (usize, &&str)| Candidate {
            host: HostId::of_peer_id(&n.to_be_bytes()),
            zone: Label::new("z"),
            platform: Label::new(platform),
            protocol: 2,
        };
        platforms.iter().enumerate().map(host).collect()
    }

    fn plan(images: &[Image], platforms: &[&str], hosts: Vec<Candidate>) -> Result<Plan, String> {
        let texts: Vec<String> = platforms.iter().map(|&text| text.to_owned()).collect();
        let platforms = Platforms::parse(&texts).unwrap();
        needed(&platforms, &hosts)
            .and_then(|_| Plan::new(images, &platforms, &Targets::All, hosts))
            .map_err(|error| error.to_string())
    }

    fn bytes(order: &[PreheatImage]) -> u64 {
        order.iter().flat_map(|image| &image.blobs).map(|blob| blob.size).sum()
    }

    fn blobs(count: usize) -> Vec<PreheatBlob> {
        (0..count).map(|n| PreheatBlob { digest: digest(&n.to_string()), size: 1 }).collect()
    }

    #[test]
    fn hosts_of_a_platform_share_an_order_and_a_repository_is_asked_once_for_a_content() {
        let mut images = [image("a", &["linux/amd64", "linux/arm64"]), image("b", &["linux/amd64"])];
        images[1].repository = images[0].repository.clone();
        let plan = plan(&images, &[], hosts(&["linux/amd64", "linux/arm64", "linux/amd64"])).unwrap();
        let places: Vec<u8> = plan.hosts.iter().map(|(_, place)| *place).collect();
        assert_eq!((plan.orders.len(), places), (2, vec![0, 1, 0]));
        let [both, one] = &plan.orders[..] else { panic!() };
        assert_eq!((bytes(both), bytes(one)), (100 + 10 + 10, 100 + 10));
        assert_eq!(both.iter().map(|image| image.blobs.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(both[0].manifests, [digest("a"), digest("a linux/amd64")]);
        assert_eq!((one.len(), one[0].repository.as_str()), (1, "a"));
        assert_eq!(plan.images[0].platforms, ["linux/amd64", "linux/arm64"]);
        assert_eq!((plan.images[0].bytes, plan.images[1].bytes), (100 + 10 + 10, 100 + 10));
    }

    /// A registry that refuses a host does not take from it what a mirror gives.
    #[test]
    fn what_two_repositories_have_is_asked_of_both() {
        let images = [image("a", &["linux/amd64"]), image("mirror", &["linux/amd64"])];
        let plan = plan(&images, &[], hosts(&["linux/amd64"])).unwrap();
        let [order] = &plan.orders[..] else { panic!() };
        let repositories: Vec<&str> = order.iter().map(|image| image.repository.as_str()).collect();
        assert_eq!(repositories, ["a", "mirror"]);
        for image in order {
            let has = image.blobs.iter().filter(|blob| blob.digest == digest("base")).count();
            assert_eq!((has, image.blobs.len(), image.manifests.len()), (1, 2, 2), "{}", image.repository);
        }
    }

    #[test]
    fn of_an_images_platforms_a_view_has_some() {
        let names: Vec<String> = (0..2 * OFFERED_MAX).map(|n| format!("linux/a{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = plan(&[image("a", &names)], &["all"], hosts(&["linux/amd64"])).unwrap();
        assert_eq!((plan.images[0].platforms.len(), bytes(&plan.orders[0])), (OFFERED_MAX, 100 + 10 * 128));
    }

    #[test]
    fn what_costs_the_scheduler_too_much_says_what_to_do() {
        let repeating = |count: usize| {
            let mut image = image("a", &["linux/amd64"]);
            let part = Part { blobs: blobs(4000), ..image.parts[0].clone() };
            image.parts = vec![part; count];
            image
        };
        let plan = |parts, count| plan(&[repeating(parts)], &[], hosts(&vec!["linux/amd64"; count]));
        let why = plan(9, 1).unwrap_err();
        assert!(why.contains("name 36000 blobs") && why.contains("32768: ask for fewer images"), "{why}");
        // With the index and the manifest each host is to hold 4,002.
        assert_eq!(plan(8, 249).unwrap().hosts.len(), 249);
        let why = plan(8, 250).unwrap_err();
        assert!(why.starts_with("250 hosts would hold 1000500") && why.contains("name zones"), "{why}");
    }

    #[test]
    fn all_hosts_get_what_was_named() {
        let images = [image("a", &["linux/amd64", "linux/arm64"])];
        let two = || hosts(&["linux/amd64", "linux/arm64"]);
        for (platforms, expected) in [(&["all"][..], 120), (&["linux/arm64"], 110)] {
            let plan = plan(&images, platforms, two()).unwrap();
            assert_eq!((plan.orders.len(), bytes(&plan.orders[0])), (1, expected));
            assert!(plan.hosts.iter().all(|(_, place)| *place == 0));
        }
        // What has no index is for everybody.
        let mut plain = image("a", &["linux/amd64"]);
        plain.parts[0].platform = None;
        plain.offered.clear();
        let plan = plan(&[plain], &["linux/s390x"], two()).unwrap();
        assert_eq!((bytes(&plan.orders[0]), plan.images[0].platforms.len()), (110, 0));
    }

    #[test]
    fn hosts_that_would_hold_nothing_are_left_out_unless_they_were_named() {
        let images = [image("a", &["linux/amd64"])];
        let some = || hosts(&["linux/arm64", "linux/amd64", ""]);
        let plan = plan(&images, &[], some()).unwrap();
        assert_eq!(plan.hosts.iter().map(|(host, _)| host.host).collect::<Vec<_>>(), [some()[1].host]);
        for (platform, expected) in [
            ("linux/arm64", "is of linux/arm64, for which the images have nothing"),
            ("", "does not say what its platform is: name platforms"),
        ] {
            let named = hosts(&["linux/amd64", platform]);
            let ids = named.iter().map(|host| host.host.to_string()).collect();
            let expected = format!("host {} {expected}", named[1].host);
            let why = Plan::new(&images, &Platforms::Own, &Targets::Hosts(ids), named).unwrap_err();
            assert_eq!(why.to_string(), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_says_what_there_is() {
        let images = [image("a", &["linux/amd64", "linux/arm/v7"])];
        let amd64 = || hosts(&["linux/amd64"]);
        let why = plan(&images, &["linux/amd64", "linux/s390x"], amd64()).unwrap_err();
        assert_eq!(why, "registry.test/a:v1 has nothing for linux/s390x; it has linux/amd64, linux/arm/v7");
        let why = plan(&images, &[], hosts(&["linux/s390x", "linux/mips"])).unwrap_err();
        assert!(why.contains("nothing for linux/mips, linux/s390x; it has linux/amd64"), "{why}");
        let why = plan(&images, &[], hosts(&[""])).unwrap_err();
        assert!(why.contains("no host says what its platform is"), "{why}");
        let names: Vec<String> = (0..=PLATFORMS_MAX).map(|n| format!("linux/a{n}")).collect();
        let many: Vec<&str> = names.iter().map(String::as_str).collect();
        let why = plan(&images, &[], hosts(&many)).unwrap_err();
        assert!(why.contains("more than 16 platforms"), "{why}");
        let mut large = image("a", &["linux/amd64"]);
        large.parts[0].blobs = blobs(PREHEAT_CONTENTS_MAX);
        let why = plan(&[large], &[], amd64()).unwrap_err();
        assert!(why.contains("4098 manifests and blobs, more than 4096"), "{why}");
    }
}
