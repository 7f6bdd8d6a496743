"""The medical lexicon: 16 specialties, four topics each, with the terms that express them."""

from __future__ import annotations

from dataclasses import dataclass

# topic: conditions and signs | drugs | procedures and measurements
_TEXT = """
cardiology
heart failure: reduced ejection fraction, cardiomyopathy | sacubitril, dapagliflozin | echocardiography, natriuretic peptide
atrial fibrillation: arrhythmia, stroke risk | apixaban, amiodarone | catheter ablation, Holter monitoring
coronary disease: myocardial infarction, angina | ticagrelor, atorvastatin | angioplasty, coronary angiography
hypertension: high blood pressure, aortic stiffness | amlodipine, ramipril | ambulatory pressure monitoring, renal denervation
oncology
breast cancer: ductal carcinoma, HER2 | trastuzumab, tamoxifen | mastectomy, mammography
lung cancer: adenocarcinoma, EGFR mutation | osimertinib, pembrolizumab | lobectomy, bronchoscopy
colorectal cancer: adenoma, liver metastasis | oxaliplatin, cetuximab | colectomy, faecal testing
melanoma: BRAF mutation, skin cancer | nivolumab, dabrafenib | sentinel biopsy, wide excision
neurology
stroke: cerebral ischaemia, aphasia | alteplase, clopidogrel | thrombectomy, perfusion imaging
epilepsy: seizure, status epilepticus | levetiracetam, lamotrigine | electroencephalography, temporal resection
multiple sclerosis: demyelination, optic neuritis | ocrelizumab, natalizumab | lumbar puncture, brain MRI
parkinson disease: bradykinesia, tremor | levodopa, rasagiline | deep brain stimulation, gait analysis
endocrinology
diabetes: hyperglycaemia, insulin resistance | metformin, semaglutide | glucose monitoring, insulin pump
thyroid disease: hypothyroidism, Graves disease | levothyroxine, carbimazole | thyroidectomy, thyroid ultrasound
obesity: metabolic syndrome, weight regain | tirzepatide, liraglutide | bariatric surgery, calorimetry
osteoporosis: fragility fracture, bone loss | denosumab, zoledronate | bone densitometry, vertebral imaging
gastroenterology
crohn disease: ileitis, fistula | infliximab, ustekinumab | ileocolonoscopy, faecal calprotectin
hepatitis: cirrhosis, liver fibrosis | tenofovir, sofosbuvir | liver biopsy, elastography
reflux disease: oesophagitis, Barrett oesophagus | omeprazole, vonoprazan | fundoplication, pH monitoring
pancreatitis: pancreatic necrosis, gallstones | pancrelipase, octreotide | cholangiopancreatography, cystogastrostomy
pulmonology
asthma: bronchospasm, airway eosinophilia | budesonide, mepolizumab | spirometry, exhaled nitric oxide
chronic bronchitis: emphysema, obstructive lung disease | tiotropium, roflumilast | pulmonary rehabilitation, lung volume reduction
pulmonary fibrosis: interstitial lung disease, honeycombing | nintedanib, pirfenidone | chest tomography, lung transplantation
sleep apnoea: snoring, nocturnal hypoxia | solriamfetol, modafinil | polysomnography, positive airway pressure
nephrology
chronic kidney disease: albuminuria, uraemia | finerenone, empagliflozin | filtration rate, kidney biopsy
dialysis: vascular access, fluid overload | epoetin, sevelamer | haemodialysis, arteriovenous fistula
kidney transplant: graft rejection, polyomavirus | tacrolimus, mycophenolate | living donation, crossmatch
glomerulonephritis: nephrotic syndrome, haematuria | rituximab, cyclophosphamide | urine microscopy, plasma exchange
rheumatology
rheumatoid arthritis: synovitis, joint erosion | methotrexate, tofacitinib | joint ultrasound, disease activity score
lupus: malar rash, lupus nephritis | hydroxychloroquine, belimumab | antinuclear antibody, complement levels
gout: hyperuricaemia, tophus | allopurinol, colchicine | joint aspiration, dual-energy tomography
spondylitis: sacroiliitis, back stiffness | secukinumab, adalimumab | sacroiliac MRI, spinal mobility
dermatology
psoriasis: plaques, nail pitting | guselkumab, calcipotriol | phototherapy, skin severity index
eczema: atopic dermatitis, pruritus | dupilumab, tralokinumab | patch testing, wet wrapping
acne: comedones, scarring | isotretinoin, adapalene | laser resurfacing, chemical peel
urticaria: wheals, angioedema | omalizumab, cetirizine | provocation test, autologous serum test
infectious diseases
sepsis: septic shock, bacteraemia | meropenem, noradrenaline | blood culture, lactate clearance
HIV: opportunistic infection, viral load | dolutegravir, cabotegravir | resistance genotyping, CD4 count
tuberculosis: latent infection, cavitation | rifampicin, bedaquiline | sputum culture, interferon release assay
malaria: parasitaemia, Plasmodium falciparum | artesunate, primaquine | blood film, rapid diagnostic test
psychiatry
depression: anhedonia, suicidal ideation | sertraline, esketamine | cognitive therapy, electroconvulsive therapy
schizophrenia: psychosis, hallucinations | clozapine, paliperidone | symptom scale, early intervention
bipolar disorder: mania, mood episode | lithium, quetiapine | psychoeducation, mood charting
addiction: alcohol dependence, opioid use | naltrexone, buprenorphine | contingency management, brief intervention
paediatrics
bronchiolitis: respiratory syncytial virus, wheeze | nirsevimab, palivizumab | nasal suction, high-flow oxygen
prematurity: neonatal distress, retinopathy | surfactant, caffeine citrate | kangaroo care, neonatal ventilation
childhood vaccination: measles, whooping cough | rotavirus vaccine, pneumococcal vaccine | catch-up schedule, school programme
cystic fibrosis: CFTR mutation, Pseudomonas airway infection | ivacaftor, tobramycin | sweat test, airway clearance
obstetrics
pre-eclampsia: proteinuria, fetal growth restriction | labetalol, magnesium sulphate | uterine Doppler, induction of labour
endometriosis: pelvic pain, infertility | elagolix, dienogest | laparoscopy, transvaginal ultrasound
postpartum haemorrhage: uterine atony, placenta accreta | oxytocin, tranexamic acid | balloon tamponade, caesarean section
contraception: unintended pregnancy, amenorrhoea | levonorgestrel, drospirenone | intrauterine device, implant insertion
haematology
leukaemia: blast crisis, cytopenia | imatinib, venetoclax | marrow aspiration, stem cell transplantation
lymphoma: lymphadenopathy, B symptoms | polatuzumab, brentuximab | node biopsy, cell therapy
thrombosis: pulmonary embolism, thrombophilia | rivaroxaban, heparin | compression ultrasound, cava filter
sickle cell disease: vaso-occlusive crisis, haemolysis | hydroxyurea, crizanlizumab | exchange transfusion, gene therapy
ophthalmology
glaucoma: ocular hypertension, optic neuropathy | latanoprost, timolol | trabeculectomy, tonometry
macular degeneration: drusen, choroidal neovascularisation | aflibercept, faricimab | intravitreal injection, coherence tomography
cataract: lens opacity, glare | moxifloxacin, ketorolac | phacoemulsification, biometry
uveitis: iritis, vitreous haze | dexamethasone implant, voclosporin | slit lamp, fluorescein angiography
orthopaedics
osteoarthritis: cartilage loss, knee pain | diclofenac, triamcinolone | knee arthroplasty, osteotomy
hip fracture: femoral neck fracture, delirium | cefazolin, enoxaparin | hemiarthroplasty, fascia iliaca block
spinal stenosis: claudication, disc herniation | pregabalin, gabapentin | laminectomy, spinal fusion
tendon injury: rotator cuff tear, tendinopathy | naproxen, platelet-rich plasma | arthroscopy, shock wave therapy
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of one specialty and the terms that express it."""

    name: str
    specialty: int
    """Row in :data:`SPECIALTIES`."""
    conditions: tuple[str, ...]
    drugs: tuple[str, ...]
    procedures: tuple[str, ...]

    @property
    def terms(self) -> tuple[str, ...]:
        """Everything that names the topic in a text, its own name first."""
        return (self.name, *self.conditions, *self.drugs, *self.procedures)


def _parse() -> tuple[tuple[str, ...], tuple[Topic, ...]]:
    specialties: list[str] = []
    topics: list[Topic] = []
    for line in _TEXT.strip().splitlines():
        name, colon, rest = line.partition(": ")
        if not colon:
            specialties.append(name)
            continue
        groups = [tuple(term.strip() for term in part.split(",")) for part in rest.split("|")]
        topics.append(Topic(name, len(specialties) - 1, groups[0], groups[1], groups[2]))
    return tuple(specialties), tuple(topics)


SPECIALTIES, TOPICS = _parse()

DESIGNS = (
    "randomised controlled trial",
    "prospective cohort study",
    "case-control study",
    "systematic review",
    "registry analysis",
    "multicentre crossover trial",
)
"""Study designs, of any specialty."""

COUNTRIES = {
    "DE": "de", "FR": "fr", "GB": "en", "US": "en", "ES": "es", "IT": "it", "AT": "de", "IE": "en",
}  # fmt: skip
"""Countries of doctors, and the language spoken there."""
